// Prints whether each body, in a JSON array on the standard input, is the same after express.json() and JSON.stringify().
import { readFileSync } from "node:fs";

console.log(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map((body) => JSON.stringify(JSON.parse(body)) === body)));
