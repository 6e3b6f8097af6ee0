// The root and every proof as OpenZeppelin's own library makes them; values come as JSON on stdin.
"use strict";

const fs = require("node:fs");
const path = require("node:path");

const library = path.resolve(process.argv[2], "@openzeppelin", "merkle-tree");
const { StandardMerkleTree } = require(library);

const values = JSON.parse(fs.readFileSync(0, "utf8"));
const tree = StandardMerkleTree.of(values, ["address", "bytes32", "uint256"]);
const proofs = values.map((_, index) => tree.getProof(index));
process.stdout.write(JSON.stringify({ root: tree.root, proofs }));
