// Reads session-id.js and the vectors named on the command line; exits 1 naming every difference.

import { readFileSync } from "node:fs";

const [, , modulePath, vectorsPath] = process.argv;
const source = readFileSync(modulePath, "utf8");
const page = await import(`data:text/javascript,${encodeURIComponent(source)}`);
const differences = [];

for (const { name, id, generate, four_rules, refusal } of JSON.parse(readFileSync(vectorsPath, "utf8"))) {
  const text = id ?? generate.prefix + generate.repeat.repeat(generate.count) + generate.suffix;
  const rule = page.validateSessionId(text);
  if (rule !== four_rules) differences.push(`${name}: four rules say ${rule}, not ${four_rules}`);
  const refused = page.refusalOfSessionId(text);
  if (refused !== refusal) differences.push(`${name}: refused for ${refused}, not ${refusal}`);
}

const minted = [0, 0.5, 1 - Number.EPSILON].map((n) => page.mintFrontendSessionId(1753590741399, () => n));
const expected = ["000000000", "iiiiiiiii", "zzzzzzzzz"].map((part) => `session_1753590741399_${part}`);
if (minted.join() !== expected.join()) differences.push(`minted ${minted}`);

console.log(differences.join("\n"));
process.exit(differences.length ? 1 : 0);
