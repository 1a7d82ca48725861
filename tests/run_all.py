"""Everything that must hold, in four phases; their outcome stands in the last line.

1. generated   mtss/, README.md and the cleaned notebooks are what the notebooks make of them
2. notebooks   nbdev_test: every cell of every notebook that is a test
3. pytest      tests/: what a cell cannot show
4. skips       what phases 2 and 3 left out is listed, with its reason, in tests/skips.txt
"""
import argparse, os, subprocess, sys, tempfile, time
from pathlib import Path
from xml.etree import ElementTree
from nbdev.frontmatter import FrontmatterProc
from nbdev.process import NBProcessor

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT/'nbs').glob('*.ipynb'))
WORKERS = 2
THREADS = str(max(1, os.cpu_count() // WORKERS))   # of each: more of them than cores would wait for each other

def run(*command, **env):
    "Run `command` in the root with its output shown; True if it succeeded."
    print('$', *command, flush=True)
    return subprocess.run(command, cwd=ROOT, env=os.environ | env).returncode == 0

# --- 1. generated

def generated_files():
    "The bytes of every file that `nbdev_export`, `nbdev_clean` and `make_readme.py` write."
    files = [ROOT/'README.md', *(ROOT/'mtss').glob('*.py'), *(ROOT/'nbs').glob('*.ipynb')]
    return {file.relative_to(ROOT): file.read_bytes() for file in files}

def check_generated():
    before = generated_files()
    done = run('nbdev_export') and run('nbdev_clean') and run(sys.executable, 'tools/make_readme.py')
    after = generated_files()
    changed = sorted(file for file in before.keys() | after.keys() if before.get(file) != after.get(file))
    for file in changed: print(f'{file} was out of date: it is made again now; look at it and commit it')
    return done and not changed

# --- 2. notebooks

def check_notebooks(slow):
    return run('nbdev_test', '--n_workers', str(WORKERS), '--do_print', *(['--flags', 'slow'] if slow else []), OMP_NUM_THREADS=THREADS)

# --- 3. pytest

def check_pytest(slow):
    "Runs tests/; returns how many passed, how many failed, and the names and reasons of the skipped."
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder)/'report.xml'
        done = run(sys.executable, '-m', 'pytest', 'tests', '-n', str(WORKERS), '--dist', 'loadfile', '--durations=5', f'--junitxml={report}', *(['--slow'] if slow else []), OMP_NUM_THREADS=THREADS)
        cases = list(ElementTree.parse(report).iter('testcase')) if report.exists() else []
    tags = [{part.tag for part in case} for case in cases]
    failed = sum(bool(tag & {'failure', 'error'}) for tag in tags)
    passed = sum(not tag & {'failure', 'error', 'skipped'} for tag in tags)
    skipped = {f"{case.get('classname')}::{case.get('name').split('[')[0]}": case.find('skipped').get('message')
               for case in cases if case.find('skipped') is not None}
    return passed, failed if done else max(failed, 1), skipped

# --- 4. skips

def skipped_cells(slow):
    "What `nbdev_test` leaves out: whole notebooks (`skip_exec`) and single cells (`eval: false`, and `slow`), each by its first line."
    skipped = {}
    for path in NOTEBOOKS:
        notebook = NBProcessor(path, procs=FrontmatterProc, process=True).nb
        if notebook.frontmatter_.get('skip_exec'):
            skipped[path.name] = 'skip_exec: true'
            continue
        for cell in notebook.cells:
            directives = cell.directives_ if cell.cell_type == 'code' else {}
            why = 'eval: false' if directives.get('eval:') == ['false'] else 'slow' if 'slow' in directives and not slow else None
            if why: skipped[f'{path.name}: {next(line for line in cell.source.splitlines() if not line.startswith("#|"))}'] = why
    return skipped

def check_skips(skipped):
    listed = dict(line.split(' -- ', 1) for line in (ROOT/'tests/skips.txt').read_text(encoding='utf-8').splitlines()
                  if line and not line.startswith('#'))
    for name, why in skipped.items(): print(f"{'listed    ' if name in listed else 'NOT LISTED'}  {name} ({why})")
    for name in sorted(listed.keys() - skipped): print(f'ran here    {name}')
    return skipped.keys() <= listed.keys()

# ---

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--slow', action='store_true', help='run the cells and tests marked slow too')
    slow = parser.parse_args().slow
    start = time.monotonic()

    def phase(title, check, *args):
        print(f'\n=== {title} ({time.monotonic() - start:.0f} s)', flush=True)
        return check(*args)

    generated = phase('1. generated files', check_generated)
    notebooks = phase('2. notebooks', check_notebooks, slow)
    passed, failed, skipped = phase('3. pytest', check_pytest, slow)
    skips = phase('4. skips', check_skips, skipped_cells(slow) | skipped)

    checks = dict(generated=generated, notebooks=notebooks, pytest=not failed, skips=skips)
    print(f'\n=== done ({time.monotonic() - start:.0f} s):', ', '.join(f"{name} {'ok' if ok else 'FAILED'}" for name, ok in checks.items()))
    others = [generated, notebooks, skips]
    print(f'{passed + sum(others)} passed, {failed + others.count(False)} failed')
    sys.exit(not all(checks.values()))

if __name__ == '__main__': main()
