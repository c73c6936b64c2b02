// What went wrong, in words for the person in front of the screen: {title, text}.

const WORDS = {
  microphone_insecure_page: {
    title: "The microphone needs a secure page",
    text: "Browsers give it only to https:// pages and to localhost. Open this page over HTTPS, or type instead.",
  },
  microphone_denied: {
    title: "The microphone is blocked",
    text: "Allow it for this page (the icon beside the address), then start again. You can type meanwhile.",
  },
  microphone_missing: {
    title: "No microphone found",
    text: "Plug one in or choose another one, then start again. You can type meanwhile.",
  },
  microphone_busy: {
    title: "The microphone cannot be opened",
    text: "Another program may be using it. Close that program, then start again.",
  },
  microphone_failed: {
    title: "The microphone cannot be opened",
    text: "Check it in your system's settings, then start again. You can type meanwhile.",
  },
  server_full: {
    title: "All lines are busy",
    text: "The server takes no more calls right now.",
  },
  too_many_calls: {
    title: "Too many calls at once",
    text: "Wait a moment, then start again.",
  },
  server_unreachable: {
    title: "The server does not answer",
    text: "It may be restarting, or your network is down. Start again in a moment.",
  },
  media_unreachable: {
    title: "No sound gets through",
    text: "The server answered, but audio (UDP) cannot reach it from your network. A firewall or VPN may be in the way.",
  },
  line_lost: {
    title: "Connection lost, reconnecting\u2026",
    text: "What you say now is not heard.",
  },
  line_back: {
    title: "Back. The conversation continues.",
    text: "",
  },
  line_dropped: {
    title: "The line dropped",
    text: "The server did not come back in time. Call again for a new conversation.",
  },
  session_gone: {
    title: "This call is over",
    text: "It ended meanwhile, or was continued elsewhere.",
  },
  sound_blocked: {
    title: "Your browser has muted the agent",
    text: "Click anywhere on this page to hear it.",
  },
  session_in_use: {
    title: "This session is already in a call",
    text: "Hang up in the other window first, or reload this page for a new session.",
  },
  access_key_needed: {
    title: "This server asks for an access key",
    text: "Enter it below the buttons, then start again.",
  },
  access_refused: {
    title: "Your access key does not allow calls",
    text: "Ask whoever runs this server for one that does.",
  },
  call_refused: {
    title: "The server refused the call",
    text: "",
  },
};

/** Words for a CallError. A refusal's own detail is shown where ours would say nothing. */
export function explain({ code, detail, retryAfterS }) {
  const { title, text } = WORDS[code] ?? WORDS.call_refused;
  const again = retryAfterS ? ` Try again in ${retryAfterS} s.` : code === "server_full" ? " Try again soon." : "";
  return { title, text: `${text || detail || ""}${again}` };
}

/** Words for an `error` event of the session or the socket. */
export function explainEvent({ message, retryable, code }) {
  return {
    title: retryable ? "A hiccup" : "Something went wrong",
    text: message || code,
  };
}

export const FLOOR_WORDS = {
  idle: "Ready when you are",
  asking: "Waiting for the microphone",
  connecting: "Connecting",
  waiting: "Connected",
  listening: "Listening",
  user: "You are speaking",
  thinking: "Thinking",
  agent: "Agent is speaking",
  held: "Agent pauses for you",
  typing: "Typing only",
  away: "Line interrupted, reconnecting",
  left: "Your call is still there",
  over: "Call ended",
};

export const LINK_WORDS = {
  idle: "Not connected",
  connecting: "Connecting",
  open: "Connected",
  lost: "Reconnecting",
  refused: "Not connected",
  ended: "Ended",
};
