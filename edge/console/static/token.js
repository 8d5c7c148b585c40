/*
 * Groups the digits of a token by four while they are typed, as they are printed. Everything works
 * without it: spaces mean nothing to the decoder.
 */
"use strict";
(function () {
  const field = document.getElementById("digits");
  if (!field) return;

  function grouped(text) {
    return text.replace(/[\s-]/g, "").replace(/(.{4})(?=.)/g, "$1 ");
  }

  /* The place is kept by what stands before it, so that a digit in the middle can be corrected. */
  field.addEventListener("input", function (event) {
    if (event.isComposing) return;
    const before = field.value.slice(0, field.selectionStart).replace(/[\s-]/g, "").length;
    field.value = grouped(field.value);
    let place = 0;
    for (let seen = 0; seen < before; place += 1) if (field.value[place] !== " ") seen += 1;
    field.setSelectionRange(place, place);
  });
})();
