// The conversation's lines as DOM, one list item each, changed in place as their text grows.

import { splitAtHeard } from "./conversation.js";

export class TranscriptView {
  /** `announce(text)` speaks a finished line to assistive technology. */
  constructor({ list, scroll, empty, announce }) {
    Object.assign(this, { list, scroll, empty, announce });
    this.items = new Map();
    this.announced = new Set();
  }

  clear() {
    this.list.replaceChildren();
    this.items.clear();
    this.announced.clear();
    this.empty.hidden = false;
  }

  /** Draw `changed` lines; `lines` are all of them in order. */
  update(changed, lines) {
    const isAtEnd = this.scroll.scrollHeight - this.scroll.scrollTop - this.scroll.clientHeight < 60;
    for (const line of changed) {
      if (lines.includes(line)) this.#draw(line);
      else this.#remove(line);
    }
    this.empty.hidden = this.items.size > 0;
    if (isAtEnd) this.scroll.scrollTop = this.scroll.scrollHeight;
  }

  #draw(line) {
    let item = this.items.get(line.key);
    if (!item) {
      item = element("li", `line ${line.who}`);
      item.append(element("span", "who", line.who === "user" ? "You" : "Agent"), element("p", "words"));
      this.items.set(line.key, item);
      this.list.append(item);
    }
    const isDone = line.isFinal || line.isInterrupted;
    item.classList.toggle("interim", line.who === "user" && !isDone);
    item.classList.toggle("growing", line.who === "agent" && !isDone);
    item.lastChild.replaceChildren(...words(line));
    if (isDone && !this.announced.has(line.key)) {
      this.announced.add(line.key);
      this.announce(`${line.who === "user" ? "You" : "Agent"}: ${line.heard ?? line.text}`);
    }
  }

  #remove(line) {
    this.items.get(line.key)?.remove();
    this.items.delete(line.key);
  }
}

function words(line) {
  if (!line.isInterrupted) return [line.text];
  const [heard, unheard] = splitAtHeard(line.text, line.heard ?? "");
  const dash = element("span", "cut", heard ? "\u2014" : "");
  const rest = element("s", "unheard", unheard.trim());
  rest.title = "Not heard: interrupted";
  return rest.textContent ? [heard.trimEnd(), dash, " ", rest] : [heard.trimEnd(), dash];
}

export function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}
