// Session ids in the browser: the same rules, codes and order as voxthread/core/ids.py.
// docs/session-ids.md tells the whole story. An id is a name, it opens nothing.

const PREFIX = "session_";
const MIN_CHARS = 20;
const MAX_CHARS = 128;
const RANDOM_CHARS = 9;

/** The first of the four rules `id` breaks, or null. */
export function validateSessionId(id) {
  if (countChars(id, MIN_CHARS) < MIN_CHARS) return "too_short";
  if (!id.startsWith(PREFIX)) return "bad_prefix";
  const end = id.indexOf("_", PREFIX.length);
  if (end < 0) return "too_few_parts";
  if (!/^[0-9]+$/.test(id.slice(PREFIX.length, end))) return "timestamp_not_numeric";
  return null;
}

export function isValidSessionId(id) {
  return validateSessionId(id) === null;
}

/** Why a server refuses `id`, or null: too long, one of the four rules, or unsafe as a key or a header. */
export function refusalOfSessionId(id) {
  if (countChars(id, MAX_CHARS + 1) > MAX_CHARS) return "too_long";
  const rule = validateSessionId(id);
  if (rule !== null) return rule;
  if (!/^[A-Za-z0-9_-]+$/.test(id)) return "bad_character";
  if (/^session_[^_]*_(_|$)/.test(id)) return "empty_random_part";
  return null;
}

/**
 * `session_{milliseconds}_{9 base-36 characters}`. `nowMs` is Unix time; `random` gives numbers in [0, 1).
 */
export function mintFrontendSessionId(nowMs = Date.now(), random = cryptoRandom) {
  let randomPart = "";
  while (randomPart.length < RANDOM_CHARS) randomPart += Math.floor(random() * 36).toString(36);
  return `${PREFIX}${Math.trunc(nowMs)}_${randomPart}`;
}

/** Characters, not UTF-16 units; counts on to at least `enough`, however long the text. */
function countChars(text, enough) {
  return [...text.slice(0, 2 * enough)].length;
}

function cryptoRandom() {
  return crypto.getRandomValues(new Uint32Array(1))[0] / 2 ** 32;
}
