// Says "ready" whenever a front end shows the lab, and keeps JupyterLab's one-letter shortcuts out of it: in a menu of
// ours, typing "m" for momentum would turn the cell into Markdown and the lab would be gone.

export default { render({ model, el }) {
  const suppress = event => {
    if (!el.closest(".labkit")?.contains(event.target)) return;
    const plain = !(event.ctrlKey || event.metaKey || event.altKey);
    event.target.toggleAttribute("data-lm-suppress-shortcuts", plain);
  };
  window.addEventListener("keydown", suppress, true);  // before JupyterLab, which listens on the document
  model.send("ready");
  return () => window.removeEventListener("keydown", suppress, true);
} };
