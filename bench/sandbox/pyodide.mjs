// Pyodide in node: told by lines on stdin, answers with one line of JSON each.
//
//   node pyodide.mjs serve     a program that lives; interpreters come from a snapshot, or anew
//   node pyodide.mjs once      a program for one call
import { createInterface } from "node:readline";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, what] = process.argv.slice(2);
const require = createRequire(`${folder}/`);
const { loadPyodide, version } = await import(pathToFileURL(require.resolve("pyodide/pyodide.mjs")));
const quiet = { stdout() {}, stderr() {}, messageCallback() {}, errorCallback() {} };
const options = { packageCacheDir: `${folder}/packages`, ...quiet };
const LENGTH = 12_500_000;

// Without NumPy the same sum in plain Python: it has less to do then.
const PLAIN = "def handler(n):\n    return float(sum(range(n)))\n";
const NUMPY = "import numpy as np\n\ndef handler(n):\n    return float(np.arange(n).sum())\n";

const withPackages = async (interpreter) => {
  await interpreter.loadPackage(["numpy", "pandas"], quiet);
  interpreter.runPython("import numpy, pandas");
  return interpreter;
};

// Its packages are not in the one from npm: it loads them from its own host, once.
const fetched = async () => {
  try {
    await withPackages(await loadPyodide(options));
    return true;
  } catch {
    return false;
  }
};

const call = (interpreter, source) => {
  const globals = interpreter.toPy({});
  interpreter.runPython(source, { globals });
  const handler = globals.get("handler");
  const result = handler(100);
  handler.destroy();
  globals.destroy();
  if (result !== 4950) throw new Error(`it gave ${result}`);
};

const timed = async (work) => {
  const start = performance.now();
  await work();
  return { seconds: (performance.now() - start) / 1e3 };
};

const once = async () => {
  const has = process.argv[4] === "numpy";
  const interpreter = await loadPyodide(options);
  if (has) await withPackages(interpreter);
  call(interpreter, has ? NUMPY : PLAIN);
};

const serve = async () => {
  const numpy = await fetched();
  const first = await loadPyodide({ ...options, _makeSnapshot: true });
  const snapshot = first.makeMemorySnapshot();
  const kept = await loadPyodide({ ...options, _loadSnapshot: snapshot });
  if (numpy) await withPackages(kept);
  const source = numpy ? NUMPY : PLAIN;
  const array = new Float64Array(LENGTH).fill(1);
  const ways = {
    reused: () => timed(() => call(kept, source)),
    snapshot: () =>
      timed(async () => {
        const fresh = await loadPyodide({ ...options, _loadSnapshot: snapshot });
        if (numpy) await withPackages(fresh);
        call(fresh, source);
      }),
    handover: () =>
      timed(() => {
        const copied = kept.toPy(array);
        const last = kept.runPython("lambda array: array[-1]")(copied);
        copied.destroy();
        if (last !== 1) throw new Error(`the array's last number is ${last}`);
      }),
  };
  console.log(JSON.stringify({ version, numpy }));
  for await (const line of createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await ways[line]()));
  }
};

await (what === "once" ? once() : serve());
process.exit(0);
