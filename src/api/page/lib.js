// Preact with htm as its templates, and the few things that every part of the page uses.

import { h } from "./vendor/preact.js";
import { useEffect, useState } from "./vendor/preact-hooks.js";
import htm from "./vendor/htm.js";

export { render } from "./vendor/preact.js";
export { useCallback, useEffect, useId, useMemo, useRef, useState } from "./vendor/preact-hooks.js";

// No element is kept to be used again, by htm (which does so unless `this[0]` says that it varies) or otherwise: it knows the tree in
// which it was first, and that one leads to all that came later.
export const html = htm.bind(function element(...parts) {
  this[0] = 3;
  return h(...parts);
});

// A component that renders again only when one of its properties is another one.
export const memo = (component) => function Memo(props) {
  this.shouldComponentUpdate = isOther;
  return h(component, props);
};

function isOther(props) {
  return !isShallowEqual(this.props, props);
}

function isShallowEqual(a, b) {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => Object.is(a[key], b[key]));
}

// The width and height of an element, in CSS pixels, while it is shown.
export function useSize(ref) {
  const [size, setSize] = useState({ width: 0, height: 0 });
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => {
      const { width, height } = entry.contentRect;
      setSize((known) => (known.width === width && known.height === height ? known : { width, height }));
    });
    observer.observe(ref.current);
    return () => observer.disconnect();
  }, []);
  return size;
}

// The names of classes that apply: `classes("row", isOpen && "open")`.
export const classes = (...names) => names.filter(Boolean).join(" ");
