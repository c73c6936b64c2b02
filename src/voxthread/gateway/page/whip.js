// One WebRTC call over WHIP (RFC 9725), with the agent's audio on the same peer connection.

const CONNECT_TIMEOUT_MS = 12_000; // the server gives up on a peer that has not connected in 10 s

/** What a server says of a session token it no longer honours. */
export const GONE_CODES = new Set(["token_invalid", "token_expired", "session_unknown", "session_forbidden"]);

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
  }

  /**
   * Negotiate and resolve to {sessionId, frontendSessionId, token} once the server has answered.
   * Throws CallError and leaves nothing open.
   */
  async start({ stream, agent, frontendSessionId, token, accessKey }) {
    this.stream = stream;
    this.accessKey = accessKey;
    this.peer = new RTCPeerConnection();
    this.peer.addTransceiver(stream.getAudioTracks()[0], { direction: "sendrecv", streams: [stream] });
    this.peer.ontrack = ({ track, streams }) => this.onVoice(streams[0] ?? new MediaStream([track]));
    this.peer.onconnectionstatechange = () => this.#report(this.peer?.connectionState);
    try {
      return await this.#negotiate({ agent, frontendSessionId, token });
    } catch (error) {
      this.close();
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

  /**
   * Free the microphone and the peer. Unless only the line is dropped, the server is told that the session is
   * over. Safe at any time, also while the page unloads.
   */
  close({ endsSession = true } = {}) {
    clearTimeout(this.deadline);
    this.#stopMicrophone();
    if (this.peer) this.peer.onconnectionstatechange = this.peer.ontrack = null;
    this.peer?.close();
    this.peer = null;
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

  async #negotiate({ agent, frontendSessionId, token }) {
    const endpoint = new URL("whip", document.baseURI);
    if (agent) endpoint.searchParams.set("agent", agent);
    this.token = token;
    await this.peer.setLocalDescription();
    const headers = this.#headers({ "Content-Type": "application/sdp", "X-Session-ID": frontendSessionId });
    let response;
    try {
      response = await fetch(endpoint, { method: "POST", headers, body: this.peer.localDescription.sdp });
    } catch {
      throw new CallError("server_unreachable");
    }
    if (response.status !== 201) throw await refusal(response, token);
    this.token = response.headers.get("X-Session-Token") ?? token;
    this.resource = new URL(response.headers.get("Location"), endpoint);
    await this.peer.setRemoteDescription({ type: "answer", sdp: await response.text() });
    this.deadline = setTimeout(() => this.onState("failed"), CONNECT_TIMEOUT_MS);
    return {
      sessionId: response.headers.get("X-Session-ID"),
      frontendSessionId: response.headers.get("X-Frontend-Session-ID") ?? frontendSessionId,
      token: this.token,
    };
  }

  #report(state) {
    if (state === "connected" || state === "failed") clearTimeout(this.deadline);
    const states = { connecting: "connecting", connected: "connected", disconnected: "interrupted", failed: "failed" };
    if (states[state]) this.onState(states[state]);
  }
}

async function refusal(response, token) {
  let problem = {};
  try {
    problem = await response.json();
  } catch {
    // a proxy's page instead of problem+json; the status says enough
  }
  if (token && GONE_CODES.has(problem.code)) return new CallError("session_gone", problem.detail);
  const retryAfterS = Number(response.headers.get("Retry-After")) || 0;
  const codes = { 401: "access_key_needed", 403: "access_refused", 409: "session_in_use", 429: "too_many_calls" };
  const code = codes[response.status] ?? (response.status === 503 ? "server_full" : "call_refused");
  return new CallError(code, problem.detail ?? `${response.status} ${response.statusText}`.trim(), retryAfterS);
}
