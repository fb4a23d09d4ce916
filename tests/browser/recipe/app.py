from flask import Flask, render_template_string, request

from ninetailed_wsgi import Ninetailed, visitor_of

PAGE = """<!doctype html>
<title>Prices</title>
<h1>{{ nt_variant("banner") }}</h1>
{{ nt_browser() }}
<script src="/static/site.js"></script>"""

app = Flask(__name__)


@app.get("/pricing")
def pricing():
    visitor_of(request).page()
    return render_template_string(PAGE), {"Content-Security-Policy": "default-src 'self'"}


Ninetailed(app, content="content.json", data_dir="ninetailed-data", preflight=True)
