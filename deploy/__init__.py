"""How Longshore is put on machines: the demo on one computer, and (later) units, images and charts for production."""
