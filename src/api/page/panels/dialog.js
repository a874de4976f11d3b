// A dialog. The browser keeps the focus in it, and Escape closes it. The focus is on what has `data-first`, and returns to where it was.
//
// One that is `beside` leaves the chart in view and in use.

import { classes, html, useEffect, useId, useRef } from "../lib.js";

export function Dialog({ title, onClose, wide, beside, children }) {
  const dialog = useRef(null);
  const id = useId();
  useEffect(() => {
    const { current } = dialog;
    if (beside) current.show();
    else current.showModal();
    current.querySelector("[data-first]")?.focus();
  }, []);
  useFocusReturn();
  useEffect(() => {
    if (!beside) return undefined;
    // The browser closes only those that are modal.
    const close = (event) => event.key === "Escape" && !document.querySelector("dialog:modal") && onClose();
    document.addEventListener("keydown", close);
    return () => document.removeEventListener("keydown", close);
  }, [onClose]);
  // A click on the backdrop has the dialog itself as its target; what it contains fills it.
  const click = (event) => !beside && event.target === dialog.current && onClose();
  return html`<dialog ref=${dialog} class=${classes(wide && "wide", beside && "beside")} aria-labelledby=${id} onClose=${onClose} onMouseDown=${click}>
    <div class="body">
      <header><h2 id=${id}>${title}</h2><button type="button" class="small" aria-label="Close" onClick=${onClose}>✕</button></header>
      ${children}
    </div>
  </dialog>`;
}

// When the component is gone, what had the focus before it has it again.
export function useFocusReturn() {
  const before = useRef(document.activeElement);
  useEffect(() => () => {
    // What is covered can have the focus only once the dialog is gone.
    queueMicrotask(() => document.activeElement === document.body && before.current.isConnected && before.current.focus());
  }, []);
}
