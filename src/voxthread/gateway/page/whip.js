// One WebRTC call over WHIP (RFC 9725), with the agent's audio on the same peer connection.

const CONNECT_TIMEOUT_MS = 12_000; // the server gives up on a peer that has not connected in 10 s
const INTERRUPTED_MS = 2_000; // browsers find out by themselves that a line is gone, but wait half a minute

const ICE_SERVER = /<([^>]+)>; *rel="ice-server"(?:; *username="([^"]*)"; *credential="([^"]*)")?/g;

/** What a server says of a session token it no longer honours. */
export const GONE_CODES = new Set([
  "token_invalid",
  "token_expired",
  "session_unknown",
  "session_forbidden",
  "resume_token_invalid",
]);

/** Anything a person must be told about. `code` picks the words in notices.js. */
export class CallError extends Error {
  constructor(code, detail = "", retryAfterS = 0) {
    super(detail || code);
    this.code = code;
    this.detail = detail;
    this.retryAfterS = retryAfterS;
  }
}

/** Ask for the microphone. Throws CallError with a `microphone_*` code. */
export async function openMicrophone(deviceId) {
  if (!window.isSecureContext || !navigator.mediaDevices?.getUserMedia) {
    throw new CallError("microphone_insecure_page");
  }
  const audio = { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 };
  if (deviceId) audio.deviceId = { exact: deviceId };
  try {
    return await navigator.mediaDevices.getUserMedia({ audio });
  } catch (error) {
    const codes = {
      NotAllowedError: "microphone_denied",
      SecurityError: "microphone_denied",
      NotFoundError: "microphone_missing",
      OverconstrainedError: "microphone_missing",
      NotReadableError: "microphone_busy",
      AbortError: "microphone_busy",
    };
    throw new CallError(codes[error.name] ?? "microphone_failed", error.name);
  }
}

/** Whether that would ask nobody. */
export async function mayOpenMicrophone() {
  try {
    return (await navigator.permissions.query({ name: "microphone" })).state === "granted";
  } catch {
    return false; // this browser does not tell
  }
}

export async function listMicrophones() {
  const devices = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
  return devices.filter((device) => device.kind === "audioinput" && device.deviceId);
}

export class Call {
  /** `onState` gets connecting, connected, interrupted, failed; `onVoice` the agent's MediaStream. */
  constructor({ onState, onVoice }) {
    this.onState = onState;
    this.onVoice = onVoice;
    this.peer = null;
    this.stream = null;
    this.resource = null;
    this.accessKey = "";
    this.token = null;
    this.connected = new Promise((resolve, reject) => Object.assign(this, { resolve, reject }));
    this.connected.catch(() => {}); // whoever asked for `onState` is told as well
  }

  /**
   * Negotiate and resolve to {sessionId, frontendSessionId, token, resumeToken} once the server has answered;
   * with a `resumeToken` the session is the one it resumes. `connected` resolves when there is sound.
   * Throws CallError and leaves nothing open but the microphone.
   */
  async start({ stream, agent, frontendSessionId, token, resumeToken, accessKey }) {
    this.stream = stream;
    this.accessKey = accessKey;
    this.peer = new RTCPeerConnection();
    this.peer.addTransceiver(stream.getAudioTracks()[0], { direction: "sendrecv", streams: [stream] });
    this.peer.ontrack = ({ track, streams }) => this.onVoice(streams[0] ?? new MediaStream([track]));
    this.peer.onconnectionstatechange = () => this.#report(this.peer?.connectionState);
    try {
      return await this.#negotiate({ agent, frontendSessionId, token, resumeToken });
    } catch (error) {
      this.release();
      throw error;
    }
  }

  get isMuted() {
    return this.stream?.getAudioTracks().every((track) => !track.enabled) ?? false;
  }

  mute(isMuted) {
    for (const track of this.stream?.getAudioTracks() ?? []) track.enabled = !isMuted;
  }

  async useMicrophone(stream) {
    const [track] = stream.getAudioTracks();
    track.enabled = !this.isMuted;
    await this.peer.getSenders()[0].replaceTrack(track);
    this.#stopMicrophone();
    this.stream = stream;
  }

  /** Free the peer. The microphone stays open, and the session. */
  release() {
    clearTimeout(this.deadline);
    clearTimeout(this.patience);
    if (this.peer) this.peer.onconnectionstatechange = this.peer.ontrack = null;
    this.peer?.close();
    this.peer = null;
    this.reject(new CallError("media_unreachable"));
  }

  /**
   * Free the microphone and the peer. Unless only the line is dropped, the server is told that the session is
   * over. Safe at any time, also while the page unloads.
   */
  close({ endsSession = true } = {}) {
    this.#stopMicrophone();
    this.release();
    if (this.resource && endsSession) {
      fetch(this.resource, { method: "DELETE", headers: this.#headers(), keepalive: true }).catch(() => {});
    }
    this.resource = null;
  }

  #stopMicrophone() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
  }

  #headers(more = {}) {
    const headers = { ...more };
    if (this.accessKey) headers.Authorization = `Bearer ${this.accessKey}`;
    if (this.token) headers["X-Session-Token"] = this.token;
    return headers;
  }

  async #negotiate({ agent, frontendSessionId, token, resumeToken }) {
    const endpoint = new URL("whip", document.baseURI);
    if (agent) endpoint.searchParams.set("agent", agent);
    this.token = token;
    this.peer.setConfiguration({ iceServers: await this.#iceServers(endpoint) });
    await this.peer.setLocalDescription();
    const proof = resumeToken ? { "X-Resume-Token": resumeToken } : this.#headers({ "X-Session-ID": frontendSessionId });
    const headers = { "Content-Type": "application/sdp", ...proof };
    let response;
    try {
      response = await fetch(endpoint, { method: "POST", headers, body: this.peer.localDescription.sdp });
    } catch {
      throw new CallError("server_unreachable");
    }
    if (response.status !== 201) throw await refusal(response, resumeToken ?? token);
    this.token = response.headers.get("X-Session-Token") ?? token;
    this.resource = new URL(response.headers.get("Location"), endpoint);
    await this.peer.setRemoteDescription({ type: "answer", sdp: await response.text() });
    this.deadline = setTimeout(() => this.#report("failed"), CONNECT_TIMEOUT_MS);
    return {
      sessionId: response.headers.get("X-Session-ID"),
      frontendSessionId: response.headers.get("X-Frontend-Session-ID") ?? frontendSessionId,
      token: this.token,
      resumeToken: response.headers.get("X-Resume-Token"),
    };
  }

  /** The STUN and TURN servers of RFC 9725 section 4.6; without an answer the call is tried without them. */
  async #iceServers(endpoint) {
    let links = "";
    try {
      links = (await fetch(endpoint, { method: "OPTIONS", headers: this.#headers() })).headers.get("Link") ?? "";
    } catch {
      // the offer will tell that the server cannot be reached
    }
    return [...links.matchAll(ICE_SERVER)].map(([, urls, username, credential]) => ({ urls, username, credential }));
  }

  #report(state) {
    clearTimeout(this.patience);
    if (state === "connected" || state === "failed") clearTimeout(this.deadline);
    if (state === "connected") this.resolve();
    if (state === "failed") this.reject(new CallError("media_unreachable"));
    if (state === "disconnected") this.patience = setTimeout(() => this.#report("failed"), INTERRUPTED_MS);
    const states = { connecting: "connecting", connected: "connected", disconnected: "interrupted", failed: "failed" };
    if (states[state]) this.onState(states[state]);
  }
}

async function refusal(response, sessionProof) {
  let problem = {};
  try {
    problem = await response.json();
  } catch {
    // a proxy's page instead of problem+json; the status says enough
  }
  if (sessionProof && GONE_CODES.has(problem.code)) return new CallError("session_gone", problem.detail);
  const retryAfterS = Number(response.headers.get("Retry-After")) || 0;
  const codes = { 401: "access_key_needed", 403: "access_refused", 409: "session_in_use", 429: "too_many_calls" };
  const code = codes[response.status] ?? (response.status === 503 ? "server_full" : "call_refused");
  return new CallError(code, problem.detail ?? `${response.status} ${response.statusText}`.trim(), retryAfterS);
}
