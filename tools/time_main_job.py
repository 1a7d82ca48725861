"""How long the main job takes on this machine, how much processor time, and how much memory: the numbers that the README gives.

Each job is a process of its own, as a user would start it: garments are drawn; the README's first command runs from an empty store, and once more from the store
that it has filled; with `--photos my/annotations.csv` also that table, from an empty store, with and without its yardstick; with `--paper`, which takes more than an hour, every table and figure.
Nothing else should run beside it. With `--keep` the times are written to results/main_job.csv, and where they were taken to results/main_job.json; a job that was not
timed keeps what is there, and so do those of another processor.
"""
import argparse, json, os, shutil, subprocess, sys, tempfile, time
from pathlib import Path
import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
GARMENTS = 8_000
DRAW = f"from mtss.datasets import load_dataset; load_dataset('synthetic', train={GARMENTS - 2}, val=1, test=1, unlabeled=0).pixels"

def jobs(folder, photos=None, paper=False):
    "{what it is: (its command, its store)}, in the order in which they run."
    def main_job(name, *more): return ['papermill', str(ROOT/'nbs/10_table1.ipynb'), str(folder/f'{name}.ipynb'), '-p', 'gamma', '1', '-p', 'out', str(folder/name), *more]
    found = {f'{GARMENTS:,} garments drawn and stored': ([sys.executable, '-c', DRAW], folder/'drawn'),
             'Table 1, one replicate, empty store': (main_job('cold'), folder/'store'),
             'Table 1, one replicate, from the store': (main_job('warm'), folder/'store')}
    if photos:
        own = ['-p', 'dataset', str(Path(photos).resolve())]
        found |= {'Table 1 with photos, one replicate, empty store': (main_job('photos', *own), folder/'photos_store'),
                  'Table 1 with photos and the yardstick, one replicate, empty store': (main_job('yardstick', *own, '-p', 'yardstick', 'True'), folder/'yardstick_store')}
    if paper: found['every table and figure, one replicate, empty store'] = (['snakemake', '--snakefile', str(ROOT/'workflow/Snakefile'), '--directory', str(folder), '--cores', '2', '--set-threads', 'replicate=1', 'page=1', '--config', 'replicates=1', f"out={folder/'paper'}"], folder/'paper_store')
    return found

def timed(command, store):
    "Run a command to its end. Seconds, seconds of processor time, and the memory of its largest process in GB. Raises `RuntimeError` if it fails."
    with tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT/'nbs', stdout=said, stderr=subprocess.STDOUT, env=os.environ | dict(MTSS_STORE=str(store)))
        _, status, used = os.wait4(process.pid, 0)       # with all that it has started and waited for
        seconds = time.perf_counter() - start
        if status:
            said.seek(0)
            raise RuntimeError(f"{' '.join(command)} failed:\n{said.read()[-3000:].decode(errors='replace')}")
    return dict(seconds=seconds, processor_seconds=used.ru_utime + used.ru_stime, peak_gb=used.ru_maxrss * (1 if sys.platform == 'darwin' else 1024) / 1e9)

def as_time(seconds):
    "306 → '5 min 06 s'."
    minutes, rest = divmod(round(seconds), 60)
    return f'{minutes} min {rest:02} s' if minutes else f'{rest} s'

def as_lines(times):
    "The README's table, line by line."
    return ['| job | on | time | processor time | largest process |', '|---|---|---|---|---|',
            *(f'| {row.job} | {row.cpu} | {as_time(row.seconds)} | {as_time(row.processor_seconds)} | {row.peak_gb:.1f} GB |' for row in times.itertuples())]

def keep(times, origin, path):
    "Add the times to a CSV, and their origin to the JSON beside it, job by job; those of the same jobs on the same processor are replaced."
    where = path.with_suffix('.json')
    kept, places = (pd.read_csv(path), json.loads(where.read_text(encoding='utf-8'))) if path.exists() else (times[:0], {})
    rows = {(row['job'], row['cpu']): row for row in [*kept.to_dict('records'), *times.to_dict('records')]}
    pd.DataFrame(rows.values()).to_csv(path, index=False)
    where.write_text(json.dumps(places | {f'{row.job}, {row.cpu}': origin for row in times.itertuples()}, indent=1, sort_keys=True) + '\n', encoding='utf-8')

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--photos', help='an annotation table of your own')
    parser.add_argument('--paper', action='store_true', help="also every table and figure, by Snakemake: pip install -e '.[workflow]'")
    parser.add_argument('--keep', action='store_true', help='write the times to results/')
    given = parser.parse_args()
    if given.photos and not Path(given.photos).is_file(): parser.error(f'--photos {given.photos}: there is no such file')
    folder, rows = Path(tempfile.mkdtemp()), []
    try:
        timed([sys.executable, '-c', 'import mtss.runs'], folder)     # reads the libraries from the disk, once for all
        for name, (command, store) in jobs(folder, given.photos, given.paper).items():
            print(f'{name} …', flush=True)
            rows.append(dict(job=name) | timed(command, store))
    finally: shutil.rmtree(folder)
    from mtss.runs import provenance
    origin = provenance()
    times = pd.DataFrame(rows).round(2).assign(cpu=origin['cpu'])
    print('\n'.join(as_lines(times)))
    if given.keep: keep(times, origin, ROOT/'results/main_job.csv')
