// Checks Kubernetes objects against the schemas of the API and of the
// Prometheus operator: a JSON array of them on standard input, one line for
// each error on standard output, exit 1 when there is any.
//
// The packages' validators know what is required and of which type and form;
// fields that do not exist are found by the TypeScript compiler, to which an
// object's literal with an unknown property is an error.
import fs from "node:fs";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const objects = JSON.parse(fs.readFileSync(0, "utf8"));
const here = fileURLToPath(new URL("objects.ts", import.meta.url));
const errors = [];
const lines = [];
const names = [];

for (const object of objects) {
  const name = `${object.kind} ${object.metadata?.name}`;
  const library = object.apiVersion.startsWith("monitoring.coreos.com/")
    ? "@kubernetes-models/prometheus-operator"
    : "kubernetes-models";
  const path = `${library}/${object.apiVersion}/${object.kind}`;
  let model;
  try {
    model = (await import(path))[object.kind];
  } catch {
    errors.push(`${name}: no such kind in ${object.apiVersion}`);
    continue;
  }
  try {
    new model(object).validate();
  } catch (error) {
    errors.push(`${name}: ${error.message}`);
  }
  const type = `import("${path}").I${object.kind}`;
  lines.push(`({} as (object: ${type}) => void)(${JSON.stringify(object)});`);
  names.push(name);
}

// One line for each object, so that a line's number tells whose error it is.
const host = ts.createCompilerHost({});
const read = host.getSourceFile.bind(host);
host.getSourceFile = (file, ...rest) =>
  file === here
    ? ts.createSourceFile(file, lines.join("\n"), ts.ScriptTarget.ES2022)
    : read(file, ...rest);
const program = ts.createProgram([here], {
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  target: ts.ScriptTarget.ES2022,
  lib: ["lib.es2022.d.ts"],
  types: [],
  strict: true,
  noEmit: true,
  skipLibCheck: true,
}, host);
for (const found of ts.getPreEmitDiagnostics(program)) {
  const line = found.file?.fileName === here
    ? names[found.file.getLineAndCharacterOfPosition(found.start).line]
    : found.file?.fileName ?? "";
  const text = ts.flattenDiagnosticMessageText(found.messageText, " ");
  errors.push(`${line}: ${text}`);
}

for (const error of errors) console.log(error.slice(0, 500));
process.exit(errors.length > 0 ? 1 : 0);
