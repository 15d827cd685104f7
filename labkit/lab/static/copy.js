// A button that copies `text` to the clipboard.

export default { render({ model, el }) {
  const button = document.createElement("button");
  button.className = "jupyter-button lm-Widget";
  button.textContent = "Copy";
  button.title = "copy to the clipboard";
  button.onclick = async () => {
    await navigator.clipboard.writeText(model.get("text"));
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  };
  el.appendChild(button);
} };
