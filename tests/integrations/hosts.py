"""Stand-ins of the programs that integrations run in: of each the few names they use, as its documentation has them."""

import importlib.util
import json
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType, SimpleNamespace

INTEGRATIONS = Path(__file__).parents[2] / "integrations"


@contextmanager
def planted(**modules):
    """These modules, by their names with "__" for a dot, are there to be imported. Afterwards they are not, nor is what
    of the integrations has imported them."""
    names = {name.replace("__", ".") for name in modules}
    before = {name: sys.modules[name] for name in names & sys.modules.keys()}
    for name, contents in modules.items():
        module = ModuleType(name.replace("__", "."))
        vars(module).update(contents, __path__=[])
        sys.modules[module.__name__] = module
    try:
        yield
    finally:
        for name, module in [*sys.modules.items()]:
            if name in names or (getattr(module, "__file__", None) or "").startswith(str(INTEGRATIONS)):
                del sys.modules[name]
        sys.modules.update(before)


def load(path, name):
    """A file, as both programs load it: by its path, under a name of theirs."""
    folder = [str(path.parent)] if path.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=folder)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def answering(status=200, body=None, headers=()):
    """A server that answers all alike; gives its address, and what it is asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((dict(self.headers), sent))
            made = body or json.dumps({"results": [[{"text": prompt}] for prompt in sent["prompts"]]})
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(made.encode())

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


# --- ComfyUI -----------------------------------------------------------------------------------------------------


class Port:
    """An input or an output of a node: its id, and what else is said of it."""

    def __init__(self, id, **said):
        self.id, self.said, self.extra_dict = id, said, {}


def comfy_api():
    """`comfy_api.latest`: docs.comfy.org/custom-nodes/v3_migration."""
    kinds = {kind: type(kind, (), {"Input": Port, "Output": Port}) for kind in ("String", "Int", "Combo", "Boolean")}
    io = SimpleNamespace(
        ComfyNode=object,
        Schema=lambda **said: SimpleNamespace(**said),
        NodeOutput=lambda *values: SimpleNamespace(args=values),
        **kinds,
    )
    return {"comfy_api": {}, "comfy_api__latest": {"io": io, "ComfyExtension": object}}


# --- A1111 -------------------------------------------------------------------------------------------------------


@dataclass
class Control:
    """A component of Gradio."""

    value: object = None
    label: str = ""
    placeholder: str = ""
    choices: tuple = ()
    precision: int | None = None
    open: bool = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@dataclass
class Processing:
    """A job, at the moment that `process` is called for it: prompts with their styles, and seeds, are there."""

    all_prompts: list
    all_seeds: list
    all_negative_prompts: list = field(default_factory=list)
    all_hr_prompts: list = field(default_factory=list)
    all_hr_negative_prompts: list = field(default_factory=list)
    enable_hr: bool = False
    extra_generation_params: dict = field(default_factory=dict)
    comments: dict = field(default_factory=dict)
    main_prompt: str = ""
    main_negative_prompt: str = ""

    def __post_init__(self):
        self.all_negative_prompts = self.all_negative_prompts or [""] * len(self.all_prompts)

    def comment(self, text):
        self.comments[text] = 1

    def infotext(self, number):
        """What is written into a picture, as the parameters that pasting it would find."""
        said = {"prompt_text": self.all_prompts[number], "negative_prompt": self.all_negative_prompts[number]}
        params = {"Prompt": said["prompt_text"], "Negative prompt": said["negative_prompt"]}
        for key, value in self.extra_generation_params.items():
            value = value(p=self, index=number, **said) if callable(value) else value
            params |= {} if value is None else {key: str(value)}
        return params


class Styles:
    """Styles, of which one is known: it stands at the end of a prompt."""

    def __init__(self, name, text):
        self.name, self.text = name, text

    def extract_styles_from_prompt(self, prompt, negative):
        found = prompt.endswith(f", {self.text}")
        return [self.name] * found, prompt.removesuffix(f", {self.text}"), negative


class A1111:
    """The program: its settings, what was registered with it, and the modules that a script imports."""

    def __init__(self, url):
        self.pasted, self.adders, self.settings = [], [], {}
        self.opts = SimpleNamespace(
            neuroprompt_url=url,
            enable_prompt_comments=True,
            infotext_styles="Apply if any",
            add_option=lambda name, option: self.settings.update({name: option}),
        )
        shared = {
            "opts": self.opts,
            "prompt_styles": Styles("ink", "ink drawing"),
            "OptionInfo": lambda default, label, **said: SimpleNamespace(default=default, label=label, **said),
        }
        callbacks = {"on_infotext_pasted": self.pasted.append, "on_ui_settings": self.adders.append}
        self.modules = {
            "gradio": {name: Control for name in ("Accordion", "Checkbox", "Dropdown", "Number", "Textbox")},
            "modules": {},
            "modules__scripts": {"Script": object, "AlwaysVisible": object()},
            "modules__shared": shared,
            "modules__script_callbacks": callbacks,
            "modules__processing_scripts": {},
            "modules__processing_scripts__comments": {"strip_comments": lambda text: text.split("#")[0]},
        }
