// Records which sources the bundle was built from; tests/ui/canvas/test_bundle.py compares, without Node.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";

const files = [...readdirSync("src").map((name) => `src/${name}`), "package-lock.json", "vite.config.ts"].sort();
const hash = createHash("sha256");
for (const file of files) hash.update(`${file}\n`).update(readFileSync(file)).update("\n");
writeFileSync("../build/sources.sha256", `${hash.digest("hex")}\n`);
