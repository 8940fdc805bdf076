// What is taken away: the same in Python, and the report.
one("copy").addEventListener("click", async () => {
  await change();
  one("code").textContent = at.code;
  one("code").hidden = false;
  try {
    await navigator.clipboard.writeText(at.code);
    one("copy").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(one("code")); // where the clipboard can't be had
    one("copy").textContent = "Selected: copy it";
  }
  setTimeout(() => { one("copy").textContent = "Copy as Python"; }, 2000);
});

one("save").addEventListener("click", async () => {
  const button = one("save");
  button.disabled = true;
  const found = await ask("report", "report", { kind: at.kind, changes: listed() });
  button.disabled = false;
  if (!found) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(found);
  link.download = `${one("picture").alt.replace(/\.\w+$/, "").replace(/[^\p{L}\p{N}]+/gu, "-") || "image"}.html`;
  link.click();
  URL.revokeObjectURL(link.href);
});
