// A session's events folded into what a person sees: the lines of the conversation, who has the floor, and
// where the time of each turn went. No DOM here.

export class Conversation {
  constructor() {
    /** In the order they began: {key, who, text, isFinal, isInterrupted, heard, hasSpoken} */
    this.lines = [];
    /** turn_id -> [{stage, ms}], in the order they were reached */
    this.timings = new Map();
    /** waiting, listening, user, thinking, agent, held, away, over */
    this.floor = "waiting";
  }

  /** Returns the lines that changed; a line that is gone from `lines` was never said. */
  apply(event) {
    switch (event.type) {
      case "session.connected":
        return this.#floor("listening");
      case "session.resumed":
        return this.#floor(this.#isAgentSpeaking() ? "agent" : "listening");
      case "session.disconnected":
        return this.#floor("away");
      case "session.closed":
        return this.#floor("over");
      case "user.speech_started":
        // Speech before the agent was heard: what it was about to say is void.
        return this.#floor(this.floor === "held" ? "held" : "user", this.#forgetUnsaid());
      case "user.speech_stopped":
        return this.#floor(this.floor === "user" ? "listening" : this.floor);
      case "user.transcript":
        return this.#transcript(event);
      case "agent.reply_delta":
        return this.#delta(event);
      case "agent.speech_started":
      case "agent.speech_resumed":
        return this.#floor("agent", this.#agentLine(event.turn_id, { hasSpoken: true }));
      case "agent.speech_held":
        return this.#floor("held");
      case "agent.speech_stopped":
        return this.#floor("listening", this.#agentLine(event.turn_id, { isFinal: true, heard: event.heard_text }));
      case "agent.interrupted":
        return this.#floor("user", this.#agentLine(event.turn_id, { isInterrupted: true, heard: event.heard_text }));
      case "turn.timing":
        this.#timing(event);
        return [];
      case "error":
        return this.#floor(this.floor === "over" ? "over" : "listening");
      default:
        return [];
    }
  }

  #floor(floor, changed = []) {
    this.floor = floor;
    return changed;
  }

  #transcript({ utterance_id, text, final }) {
    const line = this.#line(`user-${utterance_id}`, "user");
    line.text = text;
    line.isFinal = final;
    if (final) this.floor = "thinking";
    return [line];
  }

  #delta({ turn_id, text }) {
    const line = this.#line(`agent-${turn_id}`, "agent");
    line.text += text;
    return [line];
  }

  #agentLine(turnId, change) {
    const line = this.lines.find(({ key }) => key === `agent-${turnId}`);
    if (!line) return [];
    Object.assign(line, change);
    return [line];
  }

  #isAgentSpeaking() {
    return this.lines.some(({ who, hasSpoken, isFinal, isInterrupted }) => {
      return who === "agent" && hasSpoken && !isFinal && !isInterrupted;
    });
  }

  #forgetUnsaid() {
    const unsaid = this.lines.filter((line) => line.who === "agent" && !line.hasSpoken && !line.isFinal);
    this.lines = this.lines.filter((line) => !unsaid.includes(line));
    return unsaid;
  }

  #line(key, who) {
    let line = this.lines.find((known) => known.key === key);
    if (!line) {
      line = { key, who, text: "", isFinal: false, isInterrupted: false, heard: null, hasSpoken: false };
      this.lines.push(line);
    }
    return line;
  }

  #timing({ turn_id, stage, ms }) {
    const stages = (this.timings.get(turn_id) ?? []).filter((known) => known.stage !== stage);
    stages.push({ stage, ms });
    stages.sort((a, b) => a.ms - b.ms);
    this.timings.set(turn_id, stages);
  }
}

/** An interrupted reply as [heard, unheard]; spaces do not count when the two texts are matched. */
export function splitAtHeard(text, heard) {
  let end = 0;
  for (const char of heard.replace(/\s/g, "")) {
    while (/\s/.test(text[end] ?? "")) end += 1;
    if (!text.startsWith(char, end)) return [heard, ""];
    end += char.length;
  }
  return [text.slice(0, end), text.slice(end)];
}
