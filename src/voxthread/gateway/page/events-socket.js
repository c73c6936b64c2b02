// The events WebSocket: binds to a session, comes back by itself after a break and misses nothing.

import { GONE_CODES } from "./whip.js";

const RETRY_MS = [250, 500, 1_000, 2_000, 5_000];
const PING_EVERY_MS = 15_000;
const PONG_WITHIN_MS = 10_000;

export class EventsSocket {
  /**
   * `onBound({session_id, frontend_session_id, token})`, `onEvent(event)` for each event once and in order,
   * `onError(error)` for what concerns this socket only, `onLink(state, code)`: connecting, open, lost (to come
   * back, with the close code), refused (the token opens nothing here), ended (the session is over).
   */
  constructor({ onBound, onEvent, onError, onLink }) {
    Object.assign(this, { onBound, onEvent, onError, onLink });
    this.bind = null;
    this.socket = null;
    this.lastEventId = 0;
    this.attempt = 0;
  }

  /** Join the session of `token`, or open one without it. */
  open({ token = null, frontendSessionId = null, agent = null }) {
    this.close();
    this.lastEventId = 0;
    this.attempt = 0;
    this.bind = { token, frontend_session_id: token ? null : frontendSessionId, agent: token ? null : agent };
    this.#connect();
  }

  /** Go on with the same session under its newest token. */
  rebind(token) {
    const { lastEventId } = this;
    this.open({ token });
    this.lastEventId = lastEventId;
  }

  get isBound() {
    return this.socket?.readyState === WebSocket.OPEN && this.isAnswered;
  }

  send(message) {
    if (this.isBound) this.socket.send(JSON.stringify(message));
    return this.isBound;
  }

  close() {
    clearTimeout(this.retry);
    clearInterval(this.pinging);
    clearTimeout(this.pongDue);
    this.bind = null;
    const socket = this.socket;
    this.socket = null;
    socket?.close();
  }

  #connect() {
    this.onLink("connecting");
    this.isAnswered = false;
    const url = new URL("ws", document.baseURI);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url);
    this.socket = socket;
    socket.onopen = () => {
      const message = { type: "session.bind", last_event_id: this.lastEventId };
      for (const [field, value] of Object.entries(this.bind)) if (value) message[field] = value;
      socket.send(JSON.stringify(message));
      this.pinging = setInterval(() => this.#ping(socket), PING_EVERY_MS);
    };
    socket.onmessage = ({ data }) => socket === this.socket && this.#take(JSON.parse(data));
    socket.onclose = ({ code }) => socket === this.socket && this.#lost(code);
  }

  #ping(socket) {
    if (socket.readyState !== WebSocket.OPEN) return;
    socket.send(JSON.stringify({ type: "ping" }));
    this.pongDue ??= setTimeout(() => {
      socket.onclose = null; // a dead network may keep the close handshake waiting for minutes
      socket.close();
      this.#lost(1006);
    }, PONG_WITHIN_MS);
  }

  #take(message) {
    if (message.type === "pong") {
      clearTimeout(this.pongDue);
      this.pongDue = null;
    } else if (message.seq) {
      if (message.seq <= this.lastEventId) return;
      this.lastEventId = message.seq;
      this.onEvent(message);
    } else if (message.type === "session.bound") {
      this.isAnswered = true;
      this.attempt = 0;
      this.bind = { token: message.token };
      this.onLink("open");
      this.onBound(message);
    } else if (message.type === "error") {
      if (!this.isAnswered && GONE_CODES.has(message.code)) this.#end("refused");
      this.onError(message);
    }
  }

  #lost(code) {
    clearInterval(this.pinging);
    clearTimeout(this.pongDue);
    this.pongDue = null;
    if (!this.bind) return;
    if (code === 1000 && this.isAnswered) {
      this.#end("ended");
      return;
    }
    this.onLink("lost", code);
    const waitMs = RETRY_MS[Math.min(this.attempt++, RETRY_MS.length - 1)];
    this.retry = setTimeout(() => this.#connect(), waitMs * (0.75 + Math.random() / 2));
  }

  #end(state) {
    this.close();
    this.onLink(state);
  }
}
