// node build.mjs OUT [FOLDER]: compiles every contract in this folder, or in FOLDER of it (test/: what
// only tests deploy), and writes one artifact each,
// OUT/<Name>.json = { abi, bytecode, deployedBytecode }: the same bytes on every machine.
// Diagnostics go to stderr; any warning of the compiler about our own sources is an error.
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const out = process.argv[2];
if (!out) {
  process.stderr.write("usage: node build.mjs OUT [FOLDER]\n");
  process.exit(2);
}
const solc = createRequire(import.meta.url)("solc");

const folder = process.argv[3] ?? "";
const names = readdirSync(join(here, folder))
  .filter((name) => name.endsWith(".sol"))
  .sort()
  .map((name) => join(folder, name));
const sources = Object.fromEntries(
  names.map((name) => [name, { content: readFileSync(join(here, name), "utf8") }]),
);

const input = {
  language: "Solidity",
  sources,
  settings: {
    optimizer: { enabled: true, runs: 200 },
    viaIR: true,
    evmVersion: "cancun",
    // Neither a hash nor a path of this machine in the bytecode.
    metadata: { bytecodeHash: "none", appendCBOR: false },
    outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } },
  },
};

const read = (path) => {
  for (const from of [here, join(here, "node_modules")]) {
    try {
      return { contents: readFileSync(join(from, path), "utf8") };
    } catch {
      // Then from the next.
    }
  }
  return { error: `${path}: neither here nor in node_modules; run npm ci` };
};

const output = JSON.parse(solc.compile(JSON.stringify(input), { import: read }));
// `leave` becomes a keyword in some later version; the compiler here is pinned.
const ALLOWED = new Set(["6335"]);
const told = (output.errors ?? []).filter(
  (e) =>
    e.severity === "error" ||
    (names.includes(e.sourceLocation?.file) && !ALLOWED.has(e.errorCode)),
);
for (const e of told) process.stderr.write(`[${e.errorCode}] ` + e.formattedMessage + "\n");
if (told.length > 0) process.exit(1);

mkdirSync(out, { recursive: true });
for (const file of names) {
  for (const [name, contract] of Object.entries(output.contracts[file] ?? {})) {
    const deployed = contract.evm.deployedBytecode.object;
    // Libraries of internal functions and interfaces have no code of their own to deploy.
    if (contract.evm.bytecode.object === "" || contract.abi.every((item) => item.type === "error")) continue;
    if (deployed.length / 2 > 24576) {
      process.stderr.write(`${name}: ${deployed.length / 2} bytes of code, the EVM allows 24576\n`);
      process.exit(1);
    }
    const artifact = {
      abi: contract.abi,
      bytecode: "0x" + contract.evm.bytecode.object,
      deployedBytecode: "0x" + deployed,
    };
    writeFileSync(join(out, `${name}.json`), JSON.stringify(artifact, null, 2) + "\n");
  }
}
