// The page: buttons to call, session to screen. Each part has a module of its own; this one connects them.

import { Conversation } from "./conversation.js";
import { EventsSocket } from "./events-socket.js";
import { forget, leave, recall, remember } from "./memory.js";
import { Meter } from "./meter.js";
import { FLOOR_WORDS, LINK_WORDS, explain, explainEvent } from "./notices.js";
import { redial } from "./redial.js";
import { mintFrontendSessionId } from "./session-id.js";
import { drawTimings } from "./timing.js";
import { TranscriptView } from "./transcript.js";
import { Call, CallError, listMicrophones, mayOpenMicrophone, openMicrophone } from "./whip.js";

const $ = (id) => document.getElementById(id);

const TALK_LABELS = {
  asking: "Cancel",
  connecting: "Cancel",
  talking: "Hang up",
  returning: "Hang up",
  left: "Continue the call",
  dropped: "Reconnect",
  over: "Call again",
};
const BACK_SHOWN_MS = 5_000;
const RESTARTS = new Set([1012, 1013]); // close codes after which the socket alone comes back

// idle, asking (for the microphone), connecting, talking, returning (to a lost call), left (a call to return to),
// dropped (reconnectable), typing, over
let phase = "idle";
let frontendSessionId = mintFrontendSessionId();
let token = null;
let conversation = new Conversation();
let call = null;
let attempt = 0; // a start that was overtaken by a hang-up must not go on
let unsent = [];
let connectedAtMs = 0;

const transcript = new TranscriptView({
  list: $("transcript"),
  scroll: $("scroll"),
  empty: $("empty"),
  announce: (text) => ($("announcer").textContent = text),
});
const callerMeter = new Meter($("presence"), "--caller");
const agentMeter = new Meter($("presence"), "--agent");

const socket = new EventsSocket({
  onBound(bound) {
    token = bound.token;
    showIds(bound.session_id, bound.frontend_session_id);
    while (unsent.length && socket.send(unsent[0])) unsent.shift();
  },
  onEvent(event) {
    const changed = conversation.apply(event);
    if (changed.length) transcript.update(changed, conversation.lines);
    if (event.type === "turn.timing") showTimings();
    if (event.type === "error" && phase !== "returning") showNotice(explainEvent(event));
    if (event.type === "session.closed") endSession();
    showState();
  },
  onError(error) {
    if (phase !== "over" && phase !== "returning") showNotice(explainEvent(error));
  },
  onLink(state, code) {
    showLink(state);
    // A process that is killed resets its sockets at once; that its media is silent shows much later.
    if (phase === "talking" && (state === "refused" || (state === "lost" && !RESTARTS.has(code)))) comeBack();
    else if (state === "ended" || (state === "refused" && phase !== "returning")) endSession();
  },
});

// -- talking ---------------------------------------------------------------------------------------------

async function startTalking() {
  const mine = ++attempt;
  hideNotice();
  if (phase === "over") beginSession();
  setPhase("asking");
  try {
    const stream = await openMicrophone($("microphone").value);
    if (mine !== attempt) return stopStream(stream);
    setPhase("connecting");
    callerMeter.watch(stream);
    await showMicrophones(stream);
    await connect(stream, mine);
  } catch (error) {
    if (mine !== attempt) return;
    if (!(error instanceof CallError)) throw error;
    dropCall();
    setPhase(token ? "typing" : "idle");
    showNotice(explain(error));
    $("access-choice").hidden &&= error.code !== "access_key_needed";
  }
}

async function connect(stream, mine) {
  const line = (call = newCall());
  const asked = { stream, agent: chosenAgent(), accessKey: $("access-key").value.trim() };
  const wasTyping = socket.isBound;
  let opened;
  try {
    opened = await line.start({ ...asked, frontendSessionId, token });
  } catch (error) {
    if (error.code !== "session_gone" || mine !== attempt) {
      stopStream(stream);
      throw error;
    }
    beginSession();
    opened = await line.start({ ...asked, frontendSessionId, token: null });
  }
  if (mine !== attempt) return line.close();
  take(opened);
  if (!wasTyping || !socket.isBound) socket.open({ token });
}

function newCall() {
  const line = new Call({
    onState: (state) => line === call && phase !== "returning" && onCallState(state),
    onVoice: playVoice,
  });
  return line;
}

/** What the server answered is what counts from now on. */
function take(opened) {
  ({ token, frontendSessionId } = opened);
  const { sessionId, resumeToken } = opened;
  remember({ sessionId, frontendSessionId, resumeToken, token });
  showIds(sessionId, frontendSessionId);
}

/** Move the session to a new line; the old one, if there is one, is used until that stands. */
async function comeBack(stream = call.stream) {
  const mine = ++attempt;
  setPhase("returning");
  showNotice(explain({ code: "line_lost" }));
  try {
    const line = await redial(() => resume(stream), () => mine === attempt);
    if (mine !== attempt) {
      stopStream(stream);
      return line?.close();
    }
    call?.release();
    call = line;
    callerMeter.watch(stream);
    socket.rebind(token);
    onCallState("connected");
    showBack();
  } catch (error) {
    stopStream(stream);
    if (mine !== attempt) return;
    endSession();
    if (!(error instanceof CallError)) throw error;
    showNotice(explain(error));
  }
}

/** One attempt. Each answer brings the token of the next, also where no sound follows. */
async function resume(stream) {
  const left = recall();
  if (!left) throw new CallError("session_gone");
  const line = await startAgain(stream, left);
  try {
    await line.connected;
  } catch (error) {
    line.release();
    throw error;
  }
  return line;
}

/**
 * Show the resume token. One that is refused, and was shown before without a word of what became of it, we may have
 * used up ourselves: then the session token tells.
 */
async function startAgain(stream, { resumeToken, token: sessionToken, isInDoubt }) {
  let line = newCall();
  remember({ isInDoubt: true });
  try {
    take(await line.start({ stream, frontendSessionId, resumeToken }));
    remember({ isInDoubt: false }); // but not below: an answer that is late may yet use the newest token up
  } catch (error) {
    if (error.code !== "session_gone" || !isInDoubt || !sessionToken) throw error;
    line = newCall();
    take(await line.start({ stream, frontendSessionId, token: sessionToken }));
  }
  return line;
}

/** After a reload: go on at once if the microphone may be opened without asking, else by a click. */
async function returnToCall() {
  const left = recall();
  if (!left) return;
  ({ frontendSessionId, connectedAtMs = 0 } = left);
  showIds(left.sessionId, frontendSessionId);
  setPhase("left");
  const [{ type }] = performance.getEntriesByType("navigation");
  if (type === "reload" && (await mayOpenMicrophone()) && phase === "left") continueCall();
}

async function continueCall() {
  const mine = ++attempt;
  hideNotice();
  setPhase("asking");
  try {
    const stream = await openMicrophone($("microphone").value);
    if (mine !== attempt) return stopStream(stream);
    await showMicrophones(stream);
    await comeBack(stream);
  } catch (error) {
    if (mine !== attempt) return;
    if (!(error instanceof CallError)) throw error;
    setPhase("left");
    showNotice(explain(error));
  }
}

function showBack() {
  showNotice(explain({ code: "line_back" }));
  const shown = $("notice-title").textContent;
  setTimeout(() => $("notice-title").textContent === shown && hideNotice(), BACK_SHOWN_MS);
}

function onCallState(state) {
  if (state === "connected") {
    connectedAtMs ||= Date.now();
    remember({ connectedAtMs });
    setPhase("talking");
  } else if (state === "failed") {
    if (phase === "talking") comeBack();
    else if (phase === "connecting") {
      dropCall();
      setPhase("dropped");
      showNotice(explain({ code: "media_unreachable" }));
    }
  }
  if (state === "interrupted") conversation.floor = "away";
  else if (conversation.floor === "away") conversation.floor = "listening";
  showState();
}

function hangUp() {
  attempt += 1;
  const wasOpen = call?.resource;
  call?.close();
  if (wasOpen || token || phase === "returning") endSession();
  else {
    dropCall();
    setPhase(recall() ? "left" : "idle");
  }
}

/** Let go of the line but not of the session. */
function dropCall() {
  call?.close({ endsSession: false });
  call = null;
  callerMeter.stop();
  agentMeter.stop();
  $("voice").srcObject = null;
}

function beginSession() {
  socket.close();
  token = null;
  unsent = [];
  frontendSessionId = mintFrontendSessionId();
  conversation = new Conversation();
  transcript.clear();
  showTimings();
  showIds("", "");
}

function endSession() {
  if (phase === "over") return;
  attempt += 1;
  forget();
  dropCall();
  connectedAtMs = 0;
  setPhase("over");
}

function playVoice(stream) {
  const voice = $("voice");
  voice.srcObject = stream;
  voice.play().catch((error) => {
    if (error.name !== "NotAllowedError") return; // a second play() has interrupted this one
    showNotice(explain({ code: "sound_blocked" })); // a call continued by a reload began without a click
    document.addEventListener("pointerdown", () => voice.play(), { once: true });
  });
  agentMeter.watch(stream);
}

function chosenAgent() {
  return $("agent-choice").hidden ? null : $("agent").value;
}

function stopStream(stream) {
  for (const track of stream.getTracks()) track.stop();
}

// -- typing and buttons ----------------------------------------------------------------------------------

function sendText(text) {
  hideNotice();
  const message = { type: "command.text", text };
  if (socket.send(message)) return;
  if (phase === "over") beginSession();
  unsent.push(message); // sent once the socket is bound
  if (phase === "idle" || phase === "over") {
    setPhase("typing");
    socket.open({ frontendSessionId, agent: chosenAgent() });
  }
}

function interrupt() {
  if (!$("interrupt").disabled) socket.send({ type: "command.interrupt" });
}

$("talk").addEventListener("click", () => {
  if (isBusy()) hangUp();
  else if (phase === "left") continueCall();
  else startTalking();
});
$("interrupt").addEventListener("click", interrupt);
$("mute").addEventListener("click", () => {
  call?.mute(!call.isMuted);
  showState();
});
$("composer").addEventListener("submit", (submit) => {
  submit.preventDefault();
  const text = $("text").value.trim();
  if (text) sendText(text);
  $("text").value = "";
});
$("microphone").addEventListener("change", async () => {
  if (!call) return;
  try {
    const stream = await openMicrophone($("microphone").value);
    await call.useMicrophone(stream);
    callerMeter.watch(stream);
  } catch (error) {
    showNotice(explain(error));
  }
});
$("notice-close").addEventListener("click", hideNotice);
document.addEventListener("keydown", (key) => key.key === "Escape" && interrupt());
window.addEventListener("pagehide", () => {
  leave();
  call?.close({ endsSession: false });
});
window.addEventListener("pageshow", ({ persisted }) => persisted && location.reload());
navigator.mediaDevices?.addEventListener("devicechange", () => showMicrophones(call?.stream));

for (const button of document.querySelectorAll("[data-copies]")) {
  button.addEventListener("click", () => copy(button, $(button.dataset.copies)));
}

async function copy(button, source) {
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1_500);
  } catch {
    getSelection().selectAllChildren(source); // no clipboard on an insecure page: leave it marked
  }
}

// -- showing ---------------------------------------------------------------------------------------------

function isBusy() {
  return ["asking", "connecting", "talking", "returning"].includes(phase);
}

function setPhase(next) {
  phase = next;
  showState();
}

function showState() {
  const isTalking = phase === "talking";
  const isAway = phase === "dropped" || phase === "returning";
  const floor = isTalking || phase === "typing" ? conversation.floor : isAway ? "away" : phase;
  const shown = phase === "typing" && ["waiting", "listening"].includes(floor) ? "typing" : floor;
  $("presence").dataset.floor = shown;
  document.body.dataset.phase = phase;
  const words = phase === "dropped" ? "Line dropped" : FLOOR_WORDS[shown];
  if ($("floor").textContent !== words) $("floor").textContent = words;
  $("talk-label").textContent = TALK_LABELS[phase] ?? "Start talking";
  $("talk").classList.toggle("busy", isBusy());
  $("mute").disabled = !isTalking;
  $("mute").setAttribute("aria-pressed", String(isTalking && call.isMuted));
  $("mute").textContent = isTalking && call.isMuted ? "Muted" : "Mute";
  $("interrupt").disabled = !["thinking", "agent", "held"].includes(shown);
  $("clock").hidden = !isTalking;
  showClock();
}

function showClock() {
  const seconds = Math.max(0, Math.floor((Date.now() - connectedAtMs) / 1000));
  $("clock").textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

function showLink(state) {
  $("link").dataset.state = state;
  $("link").textContent = LINK_WORDS[state];
}

function showIds(sessionId, frontendId) {
  for (const [id, text] of [["session-id", sessionId], ["frontend-id", frontendId]]) {
    $(id).textContent = text || "\u2013";
    document.querySelector(`[data-copies="${id}"]`).disabled = !text;
  }
}

function showTimings() {
  $("timing-empty").hidden = conversation.timings.size > 0;
  drawTimings($("timing"), conversation.timings);
}

function showNotice({ title, text }) {
  $("notice-title").textContent = title;
  $("notice-text").textContent = text;
  $("notice").hidden = false;
}

function hideNotice() {
  $("notice").hidden = true;
}

async function showMicrophones(stream) {
  const microphones = await listMicrophones();
  const current = stream?.getAudioTracks()[0]?.getSettings().deviceId ?? $("microphone").value;
  $("microphone").replaceChildren(
    ...microphones.map(({ deviceId, label }, i) => new Option(label || `Microphone ${i + 1}`, deviceId)),
  );
  $("microphone").value = microphones.some(({ deviceId }) => deviceId === current) ? current : "";
  $("microphone-choice").hidden = microphones.length < 2;
}

async function showAgents() {
  try {
    const response = await fetch(new URL("v1/agents", document.baseURI));
    if (!response.ok) return;
    const { agents, default: preferred } = await response.json();
    $("agent").replaceChildren(...agents.map((name) => new Option(name, name, false, name === preferred)));
    $("agent-choice").hidden = agents.length < 2;
  } catch {
    // the server picks its default agent; a call that cannot reach it says so itself
  }
}

setInterval(() => phase === "talking" && showClock(), 1_000);
showState();
showAgents();
returnToCall();
