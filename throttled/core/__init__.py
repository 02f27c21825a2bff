"""One batch on its way: counted, judged, recorded, applied; and the kernel is as recorded."""
