"""Rows of Defender's tables: what each way of exporting them is reduced to. The dialect `mde` reads them."""
