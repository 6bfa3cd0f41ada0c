// What is hard to read on a page: texts whose contrast is below 4.5, and the lines under fields below 3 (WCAG AA).
() => {
  const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data].map((value) => value / 255);
  };
  const luminance = (color) => {
    const [red, green, blue] = color.map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ancestors = (one) => (one ? [one, ...ancestors(one.parentElement)] : []);
  const contrast = (one, color) => {
    const styles = ancestors(one).map((each) => getComputedStyle(each));
    const behind = styles.map((style) => rgba(style.backgroundColor)).find((each) => each[3] === 1);
    const [red, green, blue, alpha] = rgba(color);
    const opacity = styles.reduce((product, style) => product * Number(style.opacity), alpha);
    const seen = [red, green, blue].map((value, index) => opacity * value + (1 - opacity) * behind[index]);
    const [darker, lighter] = [luminance(seen), luminance(behind.slice(0, 3))].sort((a, b) => a - b);
    return (lighter + 0.05) / (darker + 0.05);
  };

  const measured = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const owner = texts.currentNode.parentElement;
    const text = texts.currentNode.data.trim();
    if (!text || owner.closest("script, noscript, :disabled") || !owner.checkVisibility()) continue;
    measured.push({ what: `${owner.className}: ${text}`, ratio: contrast(owner, getComputedStyle(owner).color), least: 4.5 });
  }
  for (const field of document.querySelectorAll("input:not([type])")) {
    const { color, borderBottomColor } = getComputedStyle(field);
    measured.push({ what: `${field.id}: text`, ratio: contrast(field, color), least: 4.5 });
    measured.push({ what: `${field.id}: line`, ratio: contrast(field, borderBottomColor), least: 3 });
  }
  return { numMeasured: measured.length, poor: measured.filter(({ ratio, least }) => !(ratio >= least)) };
}
