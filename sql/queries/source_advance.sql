SELECT mirror.advance($1::bigint, $2::bigint, $3::bigint, $4::bigint, $5::bigint, $6::bigint,
                      to_timestamp($7::float8), $8::bigint)
