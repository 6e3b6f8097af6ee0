// Compiles every .sol of a folder: node compile.cjs <node_modules> <source folder> <output folder>
// The same sources give the same files, byte for byte.
"use strict";

const { createHash } = require("node:crypto");
const fs = require("node:fs");
const path = require("node:path");

const SETTINGS = {
  // Every chain in use knows cancun, and so does py-evm.
  evmVersion: "cancun",
  optimizer: { enabled: true, runs: 1000 },
};

const [modules, folder, output] = process.argv.slice(2).map((each) => path.resolve(each));
const solc = require(path.join(modules, "solc"));

const contracts = fs
  .readdirSync(folder)
  .filter((name) => name.endsWith(".sol"))
  .map((name) => path.basename(name, ".sol"));

const sources = {};
function read(name) {
  const content = fs.readFileSync(path.join(name.startsWith("@") ? modules : folder, name), "utf8");
  sources[name] = { content };
  return content;
}
for (const contract of contracts) {
  read(`${contract}.sol`);
}

const input = {
  language: "Solidity",
  sources: { ...sources },
  settings: {
    ...SETTINGS,
    outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } },
  },
};
const answer = JSON.parse(
  solc.compile(JSON.stringify(input), { import: (name) => ({ contents: read(name) }) }),
);
// A warning about our own lines is ours to mend; one about a library's is not.
const complaints = (answer.errors ?? []).filter(
  ({ severity, sourceLocation }) =>
    severity === "error" || !sourceLocation?.file.startsWith("@openzeppelin/"),
);
for (const { formattedMessage } of complaints) {
  process.stderr.write(formattedMessage);
}
if (complaints.length > 0) {
  process.exit(1);
}

// One sum over all sources, the imported ones included: name, length and content of each.
const sum = createHash("sha256");
for (const name of Object.keys(sources).sort()) {
  const content = Buffer.from(sources[name].content);
  sum.update(`${name}\n${content.length}\n`).update(content);
}
const sourceSha256 = sum.digest("hex");

fs.mkdirSync(output, { recursive: true });
for (const contract of contracts) {
  const { abi, evm } = answer.contracts[`${contract}.sol`][contract];
  const artefact = {
    contract,
    abi,
    bytecode: `0x${evm.bytecode.object}`,
    deployed_bytecode: `0x${evm.deployedBytecode.object}`,
    compiler: solc.version(),
    settings: SETTINGS,
    source_sha256: sourceSha256,
  };
  fs.writeFileSync(path.join(output, `${contract}.json`), `${JSON.stringify(artefact, null, 2)}\n`);
}
