"""What the digits and the stamps are drawn with: numerals, cut-outs, composition, scenes."""
