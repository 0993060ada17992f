// The drivers of both stores.
import { PrismaBetterSQLite3 } from "@prisma/adapter-better-sqlite3";
import { PrismaPg } from "@prisma/adapter-pg";

export function pool() {
  const { host, port, dbname, user } = JSON.parse(process.env.SHOP_PG);
  return { host, port: Number(port), database: dbname, user };
}

export function adapter(store, more = {}) {
  if (store === "sqlite") return new PrismaBetterSQLite3({ url: "file:shop.db", timeout: 60_000, ...more });
  return new PrismaPg(pool());
}
