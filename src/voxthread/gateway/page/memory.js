// What a reload must not forget: the call of this tab. Kept in the tab's own storage, which ends with it.

const KEY = "voxthread.call";

/** How long a server keeps a session whose caller is gone. */
export const RESUMABLE_MS = 60_000;

let call = load();

/**
 * Keep `{resumeToken, token, isInDoubt, sessionId, frontendSessionId, connectedAtMs}`, or what of it is given.
 * `isInDoubt` is whether a resume was asked for of which no answer came.
 */
export function remember(more) {
  call = { ...call, ...more, leftAtMs: null };
  save();
}

/** The page goes; its call can be continued for a while. */
export function leave() {
  if (!call) return;
  call.leftAtMs = Date.now();
  save();
}

/** The call of this tab, or null if there is none that can be continued. */
export function recall() {
  const isLate = call?.leftAtMs && Date.now() - call.leftAtMs > RESUMABLE_MS;
  return call?.resumeToken && !isLate ? call : null;
}

export function forget() {
  call = null;
  save();
}

function load() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY));
  } catch {
    return null; // a browser may be told to store nothing
  }
}

function save() {
  try {
    if (call) sessionStorage.setItem(KEY, JSON.stringify(call));
    else sessionStorage.removeItem(KEY);
  } catch {
    // then a reload ends the call
  }
}
