// Checks of a Node client, as checks.py does for Python.
import { writeFileSync } from "node:fs";

export const MODEL = "demo";
export const NO_MODEL = "no-such-model";
export const WEATHER = "sunny, 21 degrees";

const checks = [];

export const check = (name, run) => checks.push([name, run]);
const tagged = (text, check) => `${text} (${process.env.CLIENT}: ${check})`;
export const hello = (check) => tagged("Say hello.", check);
export const count = (check) => tagged("Count to six.", check);
export const weather = (check) => tagged("What is the weather in Zürich?", check);

export async function collect(pieces) {
  const all = [];
  for await (const piece of pieces) all.push(piece);
  return all;
}

export async function messageOf(action) {
  try {
    await action();
  } catch (error) {
    return String(error.message);
  }
  return "no error";
}

export async function run() {
  const results = {};
  for (const [name, action] of checks) {
    try {
      results[name] = { shown: await action() };
    } catch (error) {
      results[name] = { failed: String(error?.stack ?? error) };
    }
  }
  writeFileSync(process.env.CHECKS, JSON.stringify(results));
  process.exit(0); // connections that a client keeps open
}
