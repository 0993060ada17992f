// Prisma's own commands by its engine in WebAssembly, over the drivers of the program: no binary has to be downloaded.
import pg from "pg";
import { PrismaPg } from "@prisma/adapter-pg";
import { defineConfig } from "prisma/config";
import { adapter, pool } from "./adapters.mjs";

const store = process.env.SHOP_STORE;
const [TEXT, NAME] = [25, 19];

// @prisma/adapter-pg 6.19.3 does not know the type name, which the engine's own queries of the catalogue have:
// "Column type 'name' could not be deserialized from the database."
const asText = (result) => {
  for (const field of result?.fields ?? []) if (field.dataTypeID === NAME) field.dataTypeID = TEXT;
  return result;
};

class Client extends pg.Client {
  query(config, values, callback) {
    if (typeof values === "function") return super.query(config, (error, result) => values(error, asText(result)));
    if (callback) return super.query(config, values, (error, result) => callback(error, asText(result)));
    return super.query(config, values).then(asText);
  }
}

export default defineConfig({
  experimental: { adapter: true },
  engine: "js",
  schema: `${store}/schema.prisma`,
  migrations: { path: `${store}/migrations` },
  adapter: async () => (store === "sqlite" ? adapter(store) : new PrismaPg(new pg.Pool({ ...pool(), Client }))),
});
