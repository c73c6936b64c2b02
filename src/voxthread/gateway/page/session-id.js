// Session ids as the page sees them: the rules of docs/session-ids.md, as in src/voxthread/core/ids.py.
// Both are checked against tests/vectors/session_ids.json.

const PREFIX = "session_";
const MIN_CHARS = 20;
const MAX_CHARS = 128;
const RANDOM_CHARS = 9;

/** Why `id` is refused, as the server's error code; null if it is not. */
export function validateSessionId(id) {
  // A character is one or two UTF-16 units, so twice the limit is too long without counting.
  const chars = id.length > 2 * MAX_CHARS ? Infinity : [...id].length;
  if (chars > MAX_CHARS) return "too_long";
  if (chars < MIN_CHARS) return "too_short";
  if (!id.startsWith(PREFIX)) return "bad_prefix";
  const end = id.indexOf("_", PREFIX.length);
  if (end < 0) return "too_few_parts";
  if (!/^[0-9]+$/.test(id.slice(PREFIX.length, end))) return "timestamp_not_numeric";
  if (!/^[A-Za-z0-9_-]+$/.test(id)) return "bad_character";
  if (end + 1 === id.length || id[end + 1] === "_") return "empty_random_part";
  return null;
}

/** `session_{milliseconds}_{9 base-36 characters}`; `random` returns numbers in [0, 1), like Math.random. */
export function mintFrontendSessionId(nowMs, random) {
  let randomPart = "";
  for (let i = 0; i < RANDOM_CHARS; i += 1) randomPart += Math.floor(random() * 36).toString(36);
  return `${PREFIX}${nowMs}_${randomPart}`;
}
