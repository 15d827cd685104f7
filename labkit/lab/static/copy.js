// A button that copies `text` to the clipboard; `labels` are what it says before, after, and as its help.

export default { render({ model, el }) {
  const [copy, copied, help] = model.get("labels");
  const button = document.createElement("button");
  button.className = "jupyter-button lm-Widget";
  button.textContent = copy;
  button.title = help;
  button.onclick = async () => {
    await navigator.clipboard.writeText(model.get("text"));
    button.textContent = copied;
    setTimeout(() => { button.textContent = copy; }, 1500);
  };
  el.appendChild(button);
} };
