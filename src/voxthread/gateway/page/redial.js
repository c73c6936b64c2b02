// Dialling again after the line was lost, until the session is beyond resuming.

import { RESUMABLE_MS } from "./memory.js";
import { CallError } from "./whip.js";

// A media process is back within about two seconds of its death, which is when looking often is worth it.
const PAUSES_MS = [0, ...Array(8).fill(250), ...Array(4).fill(500), 1_000];
const LAST_PAUSE_MS = 2_000;
const HOPELESS_CODES = new Set(["session_gone", "access_refused"]);

/**
 * Call `dial` until it succeeds. Resolves to its result, or to null once `isWanted()` is false.
 * Throws CallError when it is too late, or will never work.
 */
export async function redial(dial, isWanted) {
  const lostAtMs = Date.now();
  for (let tries = 0; Date.now() - lostAtMs < RESUMABLE_MS; tries += 1) {
    await pause(PAUSES_MS[tries] ?? LAST_PAUSE_MS);
    if (!isWanted()) return null;
    try {
      return await dial();
    } catch (error) {
      if (!isWanted()) return null;
      if (!(error instanceof CallError) || HOPELESS_CODES.has(error.code)) throw error;
    }
  }
  throw new CallError("line_dropped");
}

/** With some of it up to chance, so that all pages of a server do not come back as one. */
function pause(ms) {
  return new Promise((done) => setTimeout(done, ms * (0.75 + Math.random() / 2)));
}
