"""`snakemake`: every table and figure with one command, a job per replicate."""
import os, re, shutil, subprocess, sys, time
import pandas as pd, pytest, torch
from conftest import ROOT, said
from mtss.runs import run_or_read

PAGES = {'90_claims', *(path.stem for path in (ROOT/'nbs').glob('[12]*.ipynb'))}     # the paper's experiments, and their ledger
COMPUTING = {'18_fig7', '21_datasets', '22_query'}

def started(folder, *options, **config):
    "The workflow at work in a folder that holds its store and its rows."
    given = [f'{name}={value}' for name, value in (dict(preset='smoke', replicates=1, out='rows', gamma=1, unfocused='false') | config).items()]
    return subprocess.Popen([sys.executable, '-m', 'snakemake', '-s', ROOT/'workflow/Snakefile', *options, '--config', *given], cwd=folder,
                            env=os.environ | {'MTSS_STORE': str(folder/'store')}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

def snakemake(folder, *options, check=True, **config):
    "Run the workflow to its end; what it said."
    process = started(folder, *options, **config)
    text, _ = process.communicate()
    assert (process.returncode == 0) == check, text[-4500:]
    return text

def jobs(text):
    "How many jobs of each rule a dry run names."
    return {rule: int(n) for rule, n in re.findall(r'^(page|replicate|gather) +(\d+)$', text, re.M)}

@pytest.mark.parametrize('profile', ['default', 'slurm'])
def test_what_would_run(profile, tmp_path):
    "Every experiment of the paper has its page, each with rows a job per replicate; on a cluster too, where a job says what it needs."
    text = snakemake(tmp_path, '-n', '--workflow-profile', ROOT/'workflow/profiles'/profile, preset='small', replicates=3)
    pages = {stem: block for block in re.split(r'\n(?=rule |localrule )', text) for stem in re.findall(r'output: rows/workflow/small/(\w+)\.ipynb', block)}
    tables = set(re.findall(r'output: rows/workflow/small/(\w+)/gathered', text))
    assert set(pages) == PAGES
    assert '10_table1' in tables and jobs(text) == dict(page=len(PAGES), replicate=3 * len(tables), gather=len(tables))
    assert all(f'rows/workflow/small/{table}/gathered' in pages['90_claims'] for table in tables)
    def asks(block): return {name: int(re.search(rf'resources: .*{name}=(\d+)', block)[1]) for name in ('mem_mb', 'runtime', 'gpu')}
    large, little = dict(mem_mb=32_000, runtime=600, gpu=1), dict(mem_mb=4000, runtime=30, gpu=0)
    assert {stem: asks(block) for stem, block in pages.items()} == {stem: large if stem in COMPUTING else little for stem in PAGES}
    assert len(re.findall(r'resources: .*mem_mb=32000', text)) == len(COMPUTING) + 3 * len(tables)
    assert not (tmp_path/'rows').exists() and not (tmp_path/'store').exists()

def test_table_1_has_every_gamma_that_is_asked_for(tmp_path):
    "As the paper has it: a job of its own for the replicate whose gamma is chosen on val."
    one, two = (jobs(snakemake(tmp_path, '-n', page('10_table1'), gamma=gamma)) for gamma in (1, '[1,tune]'))
    assert one == dict(page=1, replicate=1, gather=1) and two == dict(page=1, replicate=2, gather=1)

@pytest.mark.parametrize('wrong, said', [(dict(gama=2), 'no notebook has a parameter gama'), (dict(preset='huge'), "unknown preset 'huge'")], ids=['name', 'preset'])
def test_a_wrong_setting_is_refused(wrong, said, tmp_path):
    assert said in snakemake(tmp_path, '-n', check=False, **wrong)

def page(stem): return f'rows/workflow/smoke/{stem}.ipynb'

@pytest.fixture(scope='module')
def filled(tmp_path_factory):
    "The folder of a workflow that has made Table 1 and the query from nothing, two jobs at a time."
    folder = tmp_path_factory.mktemp('workflow')
    snakemake(folder, page('10_table1'), page('22_query'), '--cores', '2', '--set-threads', 'replicate=1', 'page=1')
    return folder

def alone(folder):
    "The bytes of Table 1's rows as one process with one thread makes them."
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    run_or_read(folder/'alone/table1.csv', preset='smoke', store=folder/'another store')
    torch.set_num_threads(before)
    return (folder/'alone/table1.csv').read_bytes()

def test_jobs_at_the_same_time_give_the_rows_of_a_lone_run(filled, tmp_path):
    "The replicate and the query want the same networks of one empty store; one job trains, the other waits or finds."
    assert (filled/'rows/table1.csv').read_bytes() == alone(tmp_path)
    table = said(filled/page('10_table1'))
    assert 'replicate 0: read from table1.csv' in table and ': training ' not in table
    first, second = (said(path) for path in (filled/'rows/workflow/smoke/10_table1/0/table1.ipynb', filled/page('22_query')))
    assert first.count(': training ') + second.count(': training ') == 6 and first.count('found in the store') + second.count('found in the store') == 6

def test_what_is_there_is_not_made_again(filled):
    "Another γ: the replicate, not only its page."
    pages = page('10_table1'), page('22_query')
    assert 'Nothing to be done' in snakemake(filled, '-n', *pages)
    assert jobs(snakemake(filled, '-n', *pages, gamma=2)) == dict(page=2, replicate=1, gather=1)
    snakemake(filled, *pages, '--report', 'report.html')
    assert all(rule in (filled/'report.html').read_text() for rule in ('replicate', 'gather', 'page'))

def test_figure_7_has_its_picture(filled):
    "The page makes it from the models that replicate 0 has left in the store."
    snakemake(filled, page('18_fig7'), '--cores', '2')
    figure = said(filled/page('18_fig7'))
    assert 'replicate 0: read from fig7.csv' in figure and 'pattern: the points of the picture were made' in figure and ': training ' not in figure
    assert set(pd.read_csv(filled/'rows/fig7_points.csv')['attribute_type']) == {'pattern'}

def asked(*command): return subprocess.run(command, capture_output=True, text=True).stdout.splitlines()

def of_slurm(folder, *states):
    "The numbers of SLURM's jobs that a workflow in this folder has sent."
    return [job for job, where in (line.split(' ', 1) for line in asked('squeue', '-h', *states, '-o', '%i %Z')) if where == str(folder)]

@pytest.mark.slow
def test_a_cluster_runs_the_jobs_and_starts_a_killed_one_again(tmp_path):
    "SLURM on this machine alone: a cluster need not see this folder. The replicate's job is cancelled in the midst of its training, and every process of it killed; another goes on from there, and the rows are those of a run that nobody disturbed."
    if not shutil.which('sbatch') or asked('sinfo', '-h', '-N', '-o', '%N %t') != [f'{os.uname().nodename} idle']: pytest.skip('there is no idle SLURM of one node, this machine')
    process = started(tmp_path, page('10_table1'), '--workflow-profile', ROOT/'workflow/profiles/slurm', '--slurm-init-seconds-before-status-checks', '5', '--set-threads', 'replicate=1', 'page=1')
    killed, end = [], time.monotonic() + 600
    try:
        while process.poll() is None and not killed and time.monotonic() < end:
            time.sleep(.2)
            if list(tmp_path.glob('store/runs/*/checkpoint.safetensors')): killed = of_slurm(tmp_path, '-t', 'R')
        assert len(killed) == 1
        asked('scancel', '--full', '--signal=KILL', *killed)
        text, _ = process.communicate(timeout=max(1, end - time.monotonic()))     # to wait for ever is what it must not
    finally:
        process.kill()
        asked('scancel', *of_slurm(tmp_path))
    assert process.returncode == 0 and 'Trying to restart job' in text, text[-4500:]
    second = said(tmp_path/'rows/workflow/smoke/10_table1/0/table1.ipynb')
    assert 'resumed at step' in second or 'found in the store' in second
    assert (tmp_path/'rows/table1.csv').read_bytes() == alone(tmp_path)
