// Numbers and problems for people.

/** 1234567 -> 1,234,567. */
export function grouped(number) {
  return String(number).replace(/\B(?=(\d{3})+$)/g, ",");
}
