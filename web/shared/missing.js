// Says what page.js cannot: that it, or a script it needs, was not loaded. Browsers load none for a file.

function tellWhatIsMissing() {
  const missing = performance
    .getEntriesByType("resource")
    .filter(({ name, responseStatus }) => responseStatus >= 400 && /\.m?js$/.test(name))
    .map(({ name }) => name.slice(new URL(".", location.href).href.length));
  document.getElementById("error").textContent =
    location.protocol === "file:"
      ? "A page opened as a file cannot run the model. It needs a web server; `make demo` starts one."
      : `${missing.join(", ") || "A script"} could not be loaded. Try again; if it stays so, make the page anew.`;
  document.getElementById("status").textContent = "";
  document.getElementById("form").setAttribute("aria-busy", "false");
}
