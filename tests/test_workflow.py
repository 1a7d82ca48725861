"""`snakemake`: every table and figure with one command, a job per replicate."""
import os, re, subprocess, sys
import pytest, torch
from conftest import ROOT, said
from mtss.runs import run_or_read

EXPERIMENTS = sorted(path.stem for path in (ROOT/'nbs').glob('[12]*.ipynb'))     # the paper's

def snakemake(folder, *options, check=True, **config):
    "Run the workflow in a folder that holds its store and its rows; what it said."
    given = [f'{name}={value}' for name, value in (dict(preset='smoke', replicates=1, out='rows', unfocused=False) | config).items()]
    done = subprocess.run([sys.executable, '-m', 'snakemake', '-s', ROOT/'workflow/Snakefile', *options, '--config', *given], cwd=folder,
                          env=os.environ | {'MTSS_STORE': str(folder/'store')}, capture_output=True, text=True)
    assert (done.returncode == 0) == check, done.stdout[-1500:] + done.stderr[-3000:]
    return done.stdout + done.stderr

def jobs(text):
    "How many jobs of each rule a dry run names."
    return {rule: int(n) for rule, n in re.findall(r'^(page|replicate|gather) +(\d+)$', text, re.M)}

@pytest.mark.parametrize('profile', ['default', 'slurm'])
def test_what_would_run(profile, tmp_path):
    "Every experiment of the paper has its page, each with rows a job per replicate; on a cluster too, where a job says what it needs."
    text = snakemake(tmp_path, '-n', '--workflow-profile', ROOT/'workflow/profiles'/profile, preset='small', replicates=3)
    assert set(re.findall(r'output: rows/workflow/small/(\w+)\.ipynb', text)) == set(EXPERIMENTS)
    tables = set(re.findall(r'output: rows/workflow/small/(\w+)/gathered', text))
    assert '10_table1' in tables and jobs(text) == dict(page=len(EXPERIMENTS), replicate=3 * len(tables), gather=len(tables))
    assert len(re.findall(r'resources: .*mem_mb=32000.*runtime=600.*gpu=1|resources: .*runtime=600.*gpu=1.*mem_mb=32000', text)) == len(EXPERIMENTS) + 3 * len(tables)
    assert not (tmp_path/'rows').exists() and not (tmp_path/'store').exists()

@pytest.mark.parametrize('wrong, said', [(dict(gama=2), 'no notebook has a parameter gama'), (dict(preset='huge'), "unknown preset 'huge'")], ids=['name', 'preset'])
def test_a_wrong_setting_is_refused(wrong, said, tmp_path):
    assert said in snakemake(tmp_path, '-n', check=False, **wrong)

def test_jobs_at_the_same_time_give_the_rows_of_a_lone_run(tmp_path):
    "The replicate and the query want the same networks of one empty store; one job trains, the other waits or finds."
    pages = [f'rows/workflow/smoke/{stem}.ipynb' for stem in ('10_table1', '22_query')]
    snakemake(tmp_path, *pages, '--cores', '2', '--set-threads', 'replicate=1', 'page=1')
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    run_or_read(tmp_path/'alone/table1.csv', preset='smoke', store=tmp_path/'another store')
    torch.set_num_threads(before)
    assert (tmp_path/'rows/table1.csv').read_bytes() == (tmp_path/'alone/table1.csv').read_bytes()
    page = said(tmp_path/pages[0])
    assert 'replicate 0: read from table1.csv' in page and ': training ' not in page
    first, second = (said(path) for path in (tmp_path/'rows/workflow/smoke/10_table1/0/table1.ipynb', tmp_path/pages[1]))
    assert first.count(': training ') + second.count(': training ') == 6 and first.count('found in the store') + second.count('found in the store') == 6
    # the same again: nothing to do; another γ: the replicate, not only its page
    assert 'Nothing to be done' in snakemake(tmp_path, '-n', *pages)
    assert jobs(snakemake(tmp_path, '-n', *pages, gamma=2)) == dict(page=2, replicate=1, gather=1)
    snakemake(tmp_path, *pages, '--report', 'report.html')
    assert all(rule in (tmp_path/'report.html').read_text() for rule in ('replicate', 'gather', 'page'))
