// What deserves attention: what is down, alarms, what safety holds, and overrides with who set them and until when.

import { html } from "../lib.js";
import { LEVELS } from "../health.js";
import { useStore } from "../store.js";
import { since } from "../words.js";
import { Rows, Sign } from "./rows.js";

export function Attention({ onRestore }) {
  const found = useStore((state) => state.findings);
  const at = useStore((state) => state.at);
  return html`<${Rows} items=${found} label="findings" keyOf=${({ what }) => what} empty="All well: nothing needs attention."
    render=${(finding) => html`<${Row} finding=${finding} at=${at} onRestore=${onRestore} />`} />`;
}

function Row({ finding: { level, what, why, since: time, override }, at, onRestore }) {
  return html`
    <div class="main" title=${why}>
      <span class="twist"></span>
      <${Sign} level=${level} word=${LEVELS[level].word} sign=${LEVELS[level].sign} />
      <span class="what"><span class="name">${what}</span> ${time && html`<span class="quiet">for ${since(time, at)}</span>`}</span>
      <span class="why">${why}</span>
    </div>
    ${override && html`<button class="small act" onClick=${() => onRestore(override)}>
      Restore<span class="visually-hidden"> ${override.target}</span></button>`}`;
}
