// Tabs, as ARIA has them: the arrow keys move between them.

import { html, useRef } from "../lib.js";

// `covered` is whether something lies over them.
export function Tabs({ tabs, chosen, covered, onChoose }) {
  const bar = useRef(null);
  const move = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const at = tabs.findIndex(({ id }) => id === chosen);
    const next = tabs[(at + step + tabs.length) % tabs.length];
    onChoose(next.id);
    bar.current.querySelector(`#tab-${next.id}`).focus();
  };
  return html`<section class="panel side" aria-label="Details" inert=${covered}>
    <div class="tabs" role="tablist" aria-label="Details" ref=${bar} onKeyDown=${move}>
      ${tabs.map(({ id, label, badge }) => html`<button key=${id} id="tab-${id}" role="tab" aria-selected=${id === chosen}
        aria-controls="tab-panel" tabindex=${id === chosen ? 0 : -1} onClick=${() => onChoose(id)}>${label}
        ${badge > 0 && html` <span class="badge">${badge}</span>`}</button>`)}
    </div>
    <div id="tab-panel" class="tab-panel" role="tabpanel" aria-labelledby="tab-${chosen}" tabindex="-1">
      ${tabs.find(({ id }) => id === chosen).content()}
    </div>
  </section>`;
}
