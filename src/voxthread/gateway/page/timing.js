// Where the time of each turn went, as small waterfalls; the newest is open.

import { element } from "./transcript.js";

const SHOWN_TURNS = 6;
const MIN_SCALE_MS = 1_000;
const NAMES = {
  turn_decided: "Turn decided",
  transcript: "Transcript",
  llm_first_token: "First word",
  first_clause: "First clause",
  first_audio: "First audio",
  sent: "Sent",
  heard: "Heard",
};

/** Draw `timings` (turn_id -> [{stage, ms}] by ms) into `box`. */
export function drawTimings(box, timings) {
  const turns = [...timings].slice(-SHOWN_TURNS).reverse();
  const scaleMs = Math.max(MIN_SCALE_MS, ...turns.map(([, stages]) => stages.at(-1).ms));
  box.replaceChildren(...turns.map(([turnId, stages], index) => drawTurn(turnId, stages, scaleMs, index === 0)));
}

function drawTurn(turnId, stages, scaleMs, isOpen) {
  const turn = element("details", "turn");
  turn.open = isOpen;
  const summary = element("summary");
  const total = stages.at(-1);
  summary.append(
    element("span", "turn-name", `Turn ${turnId}`),
    bar(stages.map((stage, i) => [stages[i - 1]?.ms ?? 0, stage.ms, stage.stage]), scaleMs),
    element("span", "ms", seconds(total.ms)),
  );
  const table = element("ol", "stages");
  stages.forEach(({ stage, ms }, i) => {
    const row = element("li");
    row.append(
      element("span", "stage-name", NAMES[stage] ?? stage.replaceAll("_", " ")),
      bar([[stages[i - 1]?.ms ?? 0, ms, stage]], scaleMs),
      element("span", "ms", `${ms}`),
    );
    table.append(row);
  });
  turn.append(summary, table);
  return turn;
}

function bar(spans, scaleMs) {
  const track = element("span", "bar");
  track.setAttribute("aria-hidden", "true");
  for (const [fromMs, toMs, stage] of spans) {
    const part = element("i");
    part.dataset.stage = stage;
    part.style.left = `${(100 * fromMs) / scaleMs}%`;
    part.style.width = `${(100 * (toMs - fromMs)) / scaleMs}%`;
    track.append(part);
  }
  return track;
}

function seconds(ms) {
  return `${(ms / 1000).toFixed(2)} s`;
}
