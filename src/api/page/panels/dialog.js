// A dialog over the page: the browser keeps the focus in it, and Escape closes it. The focus is on what has `data-first`.

import { html, useEffect, useId, useRef } from "../lib.js";

export function Dialog({ title, onClose, wide, children }) {
  const dialog = useRef(null);
  const id = useId();
  useEffect(() => {
    dialog.current.showModal();
    dialog.current.querySelector("[data-first]")?.focus();
  }, []);
  // A click on the backdrop has the dialog itself as its target; what it contains fills it.
  const click = (event) => event.target === dialog.current && onClose();
  return html`<dialog ref=${dialog} class=${wide ? "wide" : ""} aria-labelledby=${id} onClose=${onClose} onMouseDown=${click}>
    <div class="body">
      <header><h2 id=${id}>${title}</h2><button class="small" aria-label="Close" onClick=${onClose}>✕</button></header>
      ${children}
    </div>
  </dialog>`;
}
