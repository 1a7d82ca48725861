"""The public benchmarks: genuine lines, imitations of the whole folders, and what happens when something in them is wrong.

`MTSS_FUZZ=10000 python -m pytest tests/test_readers.py -k fuzz` tries as many damaged copies of each set, other ones every time; without it, the same thirty.
"""
import codecs, contextlib, csv, io, json, os, random, shutil, tracemalloc
from collections import Counter
from pathlib import Path
import pandas as pd, pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from conftest import ROOT, papermill, said, write_table
from imitations import IMITATIONS, padded, put, write_fashion_product
from mtss import readers
from mtss.checks import PUBLISHED, check_dataset
from mtss.datasets import load_dataset, only_trained
from mtss.readers import LAYOUTS, READERS, label_density
from mtss.runs import read_rows
from mtss.schema import AnnotationError, split_values, type_columns

def as_written(table, truth):
    "Assert that a table says what the imitation says, in whatever order of rows."
    assert list(table.columns) == list(truth.columns) and sorted(table['image']) == sorted(truth['image'])
    table, truth = (one.sort_values('image').reset_index(drop=True) for one in (table, truth))
    dealt = truth['split'] == 'dealt'
    assert table.loc[dealt, 'split'].isin(['train', 'val', 'test']).all()
    pd.testing.assert_frame_equal(table.assign(split=table['split'].where(~dealt, 'dealt')), truth)

# --- genuine lines, which are not part of the project

@pytest.fixture
def formats():
    folder = ROOT/'../shared/formats'
    if not folder.exists(): pytest.skip('the genuine lines of the formats are not beside the project')
    return folder

def test_genuine_lists_of_names(formats, tmp_path):
    folder = formats/'deepfashion_category_attribute'
    kinds = ('texture', 'sleeve', 'length', 'neckline', 'fabric', 'fit')
    attributes = readers._attributes(folder/'list_attr_cloth.26.txt', kinds)
    assert Counter(kind for kind, _ in attributes) == dict(zip(kinds, (7, 3, 3, 4, 6, 3))) and attributes[12] == ('length', 'no_dress')
    for copy in 'cathyliu0408', 'wuschelbueb_tabs':
        category = readers._categories(folder/f'list_category_cloth.{copy}.txt')
        assert [category([str(n)]) for n in (1, 18, 50)] == ['Anorak', 'Tee', 'Sundress']
        with pytest.raises(ValueError, match='from 1 to 50'): category(['51'])
    shortened = folder/'list_category_cloth.hitman567.txt'                       # four rows are gone: every number behind them would mean another class
    with pytest.raises(AnnotationError, match='it says 50 rows, and 46 follow'): readers._categories(shortened)
    put(tmp_path/'renumbered.txt', shortened.read_text().replace('50', '46', 1))
    assert readers._categories(tmp_path/'renumbered.txt')(['46']) == 'Romper'

def test_genuine_heads_of_the_large_lists(formats, tmp_path, capsys):
    heads = (formats/'deepfashion_category_attribute/quoted_heads.txt').read_text().split('--- ')[1:]
    for head in heads:
        title, _, text = head.partition('\n')
        put(tmp_path/f"{Path(title.split('(')[0].split(' and ')[0].strip()).name}", text)
    classes = readers._attributes(tmp_path/'list_attr_cloth.txt', ('texture', 'fabric', 'shape', 'part', 'style'))
    assert ('texture', 'abstract chevron print') in classes and classes[0] == ('shape', 'a-line')
    split = readers._by_image(tmp_path/'list_eval_partition.txt', 1, readers._split)
    assert list(split.values()) == ['train', 'train', 'val', 'train', 'test'] and all(image.startswith('img/Sheer_Pleated-Front_Blouse/') for image in split)
    sixteen = readers._attribute_cells([('texture', str(n)) for n in range(16)], ('texture',))
    assert list(readers._by_image(tmp_path/'list_attr_img.txt', 16, sixteen).values()) == [('0',), ('',)]
    category, box = (tmp_path/'list_category_img.txt').read_text().split('289222\n')[1:]
    put(tmp_path/'category.txt', category); put(tmp_path/'box.txt', '289222\n' + box)
    assert list(readers._by_image(tmp_path/'box.txt', 4, readers._box).values()) == [(72, 79, 232, 273), (67, 59, 155, 161), (65, 65, 156, 200)]
    assert set(readers._by_image(tmp_path/'category.txt', 1, lambda values: int(values[0])).values()) == {3}
    assert 'line 1: it says 289,222 rows, and 5 follow' in capsys.readouterr().err

def test_genuine_names_of_images(formats, tmp_path):
    with open(formats/'deepfashion_category_attribute/derived_rows.cathyliu0408.csv', encoding='utf-8') as file: rows = list(csv.DictReader(file))
    put(tmp_path/'list_bbox.txt', padded('image_name  x_1  y_1  x_2  y_2', [(row['image_path'], ' '.join(f'{int(row[corner]):03}' for corner in ('x1', 'y1', 'x2', 'y2'))) for row in rows]))
    found = readers._by_image(tmp_path/'list_bbox.txt', 4, readers._box)
    assert [tuple(map(str, box)) for box in found.values()] == [(row['x1'], row['y1'], row['x2'], row['y2']) for row in rows]
    assert any('&eacute;' in image for image in found) and any('&_' in image for image in found)

def test_genuine_label_map_and_records(formats):
    labels = readers._label_map(formats/'imaterialist2018/iMat_fashion_2018_label_map_228.csv')
    assert len(labels) == 228 and labels[89] == ('category', 'Hosiery, Stockings, Tights')
    assert Counter(kind for kind, _ in labels.values()) == dict(category=105, color=21, gender=3, material=34, neckline=11, pattern=28, sleeve=5, style=21)
    found = []
    with contextlib.suppress(AnnotationError):                                   # the piece ends somewhere
        for name, _, record in readers._records(formats/'imaterialist2018/images_part.head.txt'): found.append((name, readers._id(record, 'imageId', 'image_id')))
    assert len(found) >= 25 and found[:3] == [('images', '35'), ('images', '55'), ('images', '120')]

def test_genuine_rows_of_darn(formats):
    row = readers._darn_row(['any'] * 171_696)
    found = [row(text.split()) for _, text in readers._lines(formats/'darn_asenpp/label_train.sample.txt')]
    assert [image for image, _ in found] == [0, 1, 2, 171_693, 171_694, 171_695] and found[0][1] == {0: 4, 1: 12, 2: 4, 3: 4, 4: 0, 5: 1, 6: 0, 7: 0, 8: 5}

def test_genuine_products(formats):
    styles = readers._styles(formats/'fashion_product/styles_variant_no_year.head.csv')
    assert len(styles) == 19 and styles[0]['productDisplayName'] == 'Turtle Check Men Navy Blue Shirt' and styles[0]['colorgroup'] == 'Blue' and styles[15]['productDisplayName'].startswith('Reid & Taylor')
    assert readers._seller_attributes(formats/'fashion_product/style_15970.json') == dict(pattern='checked', fabric='cotton', sleeve='long_sleeves', neckline='spread_collar', fit='slim_fit', color='white')

def test_genuine_products_have_the_classes_of_the_catalogue(formats, catalogue, tmp_path):
    "The photo catalogue was made from the same set: where a product stands in both, they agree."
    for name, target in {'styles_variant_no_year.head.csv': 'styles.csv', 'style_15970.json': 'styles/15970.json'}.items(): put(tmp_path/target, (formats/'fashion_product'/name).read_text())
    (tmp_path/'images').mkdir()
    ours, theirs = READERS['fashion_product'](tmp_path).set_index('image'), pd.read_csv(catalogue, dtype=str, keep_default_na=False).set_index('image')
    both = [image for image in ours.index if image in theirs.index and theirs['split'][image] != 'unlabeled']
    assert both and list(type_columns(ours)) == [column for column in theirs if column != 'split']
    for image in both:
        for kind in type_columns(ours):
            if ours[kind][image]: assert set(split_values(ours[kind][image])) <= set(split_values(theirs[kind][image])), (image, kind)
    assert set(ours.loc['images/15970.jpg', type_columns(ours)]) == set(theirs.loc['images/15970.jpg', type_columns(ours)])

# --- whole folders

@pytest.fixture(scope='module', params=IMITATIONS)
def imitation(request, tmp_path_factory):
    "Name, folder and truth of each imitation."
    root = tmp_path_factory.mktemp(request.param)/'set'
    return request.param, root, IMITATIONS[request.param](root)

def test_a_benchmark_is_read_as_it_is_written(imitation, store):
    name, root, truth = imitation
    as_written(READERS[name](root), truth)
    data = load_dataset(name, root=root, image_size=32)
    assert data.name == name and list(data.table['image']) == list(READERS[name](root)['image']) and not data.unreadable
    assert len(data.pixels) == len(truth) and data.pixels.reshape(len(truth), -1).std(axis=1).min() > 10
    for kind in data.schema.names:
        trained = set(data.table.loc[data.rows('train'), kind].map(split_values).explode())
        assert set(data.schema[kind].classes) <= trained and data.targets(kind).labels.any(axis=0).all()
    files = load_dataset(name, root=root, image_size=32, decode_ahead=False)
    assert files.key == data.key and (files.pixels[:9] == data.pixels[:9]).all()
    again = load_dataset(name, root=root, image_size=32, types=list(data.schema.names[:2]))
    assert again.schema.names == data.schema.names[:2] and again.key != data.key == load_dataset(name, root=str(root), image_size=32).key

def test_a_benchmark_is_checked(imitation):
    "Every image opens; the sizes of the true sets, which an imitation cannot have, are named."
    name, root, truth = imitation
    found = check_dataset(name, root=root).set_index('check')
    assert found.loc['images that open', 'verdict'] == 'ok' and found.loc['the table', 'found'].startswith(f'{len(truth)} rows')
    if name in PUBLISHED:
        assert found.loc['images in train', ['expected', 'verdict']].tolist() == [f"{PUBLISHED[name]['train']:,}", 'look']
    assert found.loc['labels per image and type', 'found'] == f"{label_density(only_trained(READERS[name](root), name)):.3f}"
    (wrong,) = check_dataset(name, root=root/'nowhere').itertuples()
    assert wrong.verdict == 'wrong' and 'there is no folder' in wrong.found

@pytest.mark.parametrize('name', [name if name == 'deepfashion' else pytest.param(name, marks=pytest.mark.slow) for name in IMITATIONS])
def test_the_paper_job_on_each_benchmark(name, tmp_path):
    IMITATIONS[name](tmp_path/'set')
    kinds = list(load_dataset(name, root=tmp_path/'set', image_size=32, store=tmp_path/'store').schema.names[:3])
    papermill('10_table1.ipynb', tmp_path/'out.ipynb', tmp_path/'store', out=tmp_path/'rows', preset='smoke', dataset=name, root=tmp_path/'set', types=','.join(kinds))
    rows = read_rows(tmp_path/'rows/table1.csv')
    assert set(rows['dataset']) == {name} and set(rows['attribute_type']) == {*kinds, 'all'} and {'teacher', 'student'} <= set(rows['model'])
    assert f'{name}, ours' in said(tmp_path/'out.ipynb')

def test_the_density_is_that_of_all_images_and_types(tmp_path):
    "DeepFashion's 0.718: one category and 3.31 attributes per image, over six types."
    truth = IMITATIONS['deepfashion'](tmp_path, pictures=False)
    lines = [line.split() for line in (tmp_path/'Anno_coarse/list_attr_img.txt').read_text().splitlines()[2:]]
    ones = sum(line[1:].count('1') for line in lines)
    assert label_density(READERS['deepfashion'](tmp_path)) == label_density(truth) == pytest.approx((len(lines) + ones) / (6 * len(lines)))
    for n, line in enumerate(lines): line[1:] = ['1' if k in ([0, 3, 5, 9] if n % 100 < 31 else [0, 3, 5]) else '-1' for k in range(11)]
    put(tmp_path/'Anno_coarse/list_attr_img.txt', padded('image_name  attribute_labels', [(image, ' '.join(values)) for image, *values in lines]))
    share = sum(n % 100 < 31 for n in range(len(lines))) / len(lines)
    assert label_density(READERS['deepfashion'](tmp_path)) == pytest.approx((1 + 3 + share) / 6) and abs((1 + 3.31) / 6 - .718) < .001

def test_a_class_of_test_only_is_left_out_and_counted(tmp_path, store, capfd):
    truth = IMITATIONS['deepfashion'](tmp_path)
    assert truth['texture'].str.contains('unicorn').sum() == 1
    data = load_dataset('deepfashion', root=tmp_path, image_size=16)
    assert 'unicorn' not in data.schema['texture'].classes and not data.table['texture'].str.contains('unicorn').any()
    assert 'deepfashion, texture: classes left out, since no training image has them: 1, with labels: 1 (unicorn)' in capfd.readouterr().err

def test_unreadable_images_take_their_classes_along(tmp_path, store, capfd):
    truth = IMITATIONS['deepfashion'](tmp_path)
    train = truth.index[truth['split'] == 'train'][:3]
    path = tmp_path/'Anno_coarse/list_category_img.txt'
    lines = path.read_text().splitlines()
    for n, line in enumerate(lines[2:]): lines[n + 2] = f"{line.split()[0]} {6 if n in (train[0], 95) else 1 + n // 7 % 5}"
    path.write_text('\n'.join(lines) + '\n')
    (tmp_path/truth['image'][train[0]]).write_bytes(b'no picture')
    data = load_dataset('deepfashion', root=tmp_path, image_size=16)
    assert 'Robe' not in data.schema['category'].classes and data.table['category'][95] == '' and len(data.unreadable) == 1
    assert 'with labels: 2 (Robe)' in capfd.readouterr().err
    for kind in data.schema.names: data.targets(kind)

def test_what_an_unlabeled_or_unreadable_image_says_alone_is_no_class(tmp_path, store, capfd):
    path = write_table(tmp_path/'photos', 60)
    path.write_text(path.read_text().replace('60.png', '').replace('images/7.png,train,shirt', 'images/7.png,train,robe') + 'images/60.png,unlabeled,cape,\n')
    (path.parent/'images/60.png').write_bytes((path.parent/'images/1.png').read_bytes())
    (path.parent/'images/7.png').write_bytes(b'no picture')
    data = load_dataset(path, image_size=16)
    assert data.schema['category'].classes == ('dress', 'shirt', 'skirt') and not data.targets('category').labels[60].any()
    assert 'annotations.csv, category: classes left out, since no training image has them: 2, with labels: 2 (cape, robe)' in capfd.readouterr().err

def test_fine_lists_where_the_parts_are_missing(tmp_path):
    truth = IMITATIONS['deepfashion_fine'](tmp_path, 60, pictures=False)
    folder = tmp_path/'Anno_fine'
    parts = {what: [line for split in ('train', 'val', 'test') for line in (folder/f'{split}{what}.txt').read_text().splitlines()] for what in ('', '_attr', '_cate', '_bbox')}
    for path in [*folder.glob('train*'), *folder.glob('val*'), *folder.glob('test*')]: path.unlink()
    put(folder/'list_attr_img.txt', padded('image_name  attribute_labels', [('fine/' + '-'.join(image.split('/')[1:]), values) for image, values in zip(parts[''], parts['_attr'])]))
    bare = truth.assign(split='dealt').drop(columns=['category', 'x0', 'y0', 'x1', 'y1'])
    as_written(READERS['deepfashion_fine'](tmp_path), bare)
    put(folder/'list_category_img.txt', padded('image_name  category_label', list(zip(parts[''], parts['_cate']))))
    put(folder/'list_bbox.txt', padded('image_name  x_1  y_1  x_2  y_2', list(zip(parts[''], parts['_bbox']))))
    table = READERS['deepfashion_fine'](tmp_path)
    as_written(table, truth.assign(split='dealt'))
    assert table.groupby(table['image'].str.rpartition('/')[0])['split'].nunique().eq(1).all()

def test_products_of_one_name_stay_on_one_side(tmp_path):
    for year in True, False:
        truth = write_fashion_product(tmp_path/f'{year}', pictures=False, year=year)
        table = READERS['fashion_product'](tmp_path/f'{year}')
        as_written(table, truth)
    names = {f"images/{style['id']}.jpg": style['productDisplayName'] for style in readers._styles(tmp_path/'True/styles.csv')}
    sides = table.groupby(table['image'].map(names))['split'].nunique()
    assert len(sides) < len(table) and sides.eq(1).all()

def test_products_without_their_files(tmp_path, capsys):
    truth = write_fashion_product(tmp_path, pictures=False)
    shutil.rmtree(tmp_path/'styles')
    table = READERS['fashion_product'](tmp_path)
    assert type_columns(table) == ['category', 'gender', 'color', 'style'] and list(table['category']) == list(truth['category'])
    assert 'no pattern, fabric, sleeve, neckline, fit' in capsys.readouterr().err

def test_dead_links_are_counted(tmp_path, capsys):
    for name, said in dict(imaterialist='train.json: 2 of 64 images are not on the disk and are left out, first 62', darn='filenames_train.txt: 1 of 64 images are not on the disk and are left out, first pic/train/93.jpg').items():
        IMITATIONS[name](tmp_path/name, pictures=False)
        READERS[name](tmp_path/name)
        assert said in capsys.readouterr().err

def test_a_large_file_is_read_in_little_memory(tmp_path):
    path = tmp_path/'train.json'
    with open(path, 'w') as file:
        file.write('{"images": [' + ','.join(f'{{"url": "https://example.org/{n:050}", "imageId": "{n}"}}' for n in range(50_000)) + '], "annotations": [')
        file.write(','.join(f'{{"labelId": ["3", "17"], "imageId": "{n}"}}' for n in range(50_000)) + ']}')
    tracemalloc.start()
    assert sum(1 for _ in readers._records(path)) == 100_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 6e6 and peak < 2e6

# --- what is wrong with a folder

def swap(old, new, times=1): return lambda content: content.replace(old.encode(), new.encode() if isinstance(new, str) else new, times)
def without_line(n): return lambda content: b''.join(line for k, line in enumerate(content.splitlines(keepends=True), 1) if k != n)
def twice(n): return lambda content: b''.join(line * (1 + (k == n)) for k, line in enumerate(content.splitlines(keepends=True), 1))
def line_of(n, text): return lambda content: b''.join(text.encode() + b'\n' if k == n else line for k, line in enumerate(content.splitlines(keepends=True), 1))
def cut(n): return lambda content: b''.join(line if k < n else line[:len(line.rstrip()) - 4] + b'\n' if k == n else line for k, line in enumerate(content.splitlines(keepends=True), 1))
gone = None

WRONG = {     # set, file, what happens to it, and what must be said: place, cause, remedy
    'partition missing': ('deepfashion', 'Eval/list_eval_partition.txt', gone, 'list_eval_partition.txt', 'there is no such file', 'unpack the set'),
    'partition cut': ('deepfashion', 'Eval/list_eval_partition.txt', without_line(9), 'list_eval_partition.txt', '1 of the images of list_category_img.txt have no row here', 'unpack the set anew'),
    'unknown split': ('deepfashion', 'Eval/list_eval_partition.txt', line_of(5, 'img/a.jpg   trian'), 'line 5', "'trian' is none of train, val, test", 'put back'),
    'no column names': ('deepfashion', 'Anno_coarse/list_bbox.txt', without_line(2), 'list_bbox.txt', 'line 2: here the column names must stand', 'unpack'),
    'empty list': ('deepfashion', 'Anno_coarse/list_bbox.txt', lambda content: b'', 'line 1: here the column names must stand', 'unpack'),
    'only a head': ('deepfashion', 'Anno_coarse/list_bbox.txt', lambda content: b'0\nimage_name  x_1\n', 'there is no row', 'unpack'),
    'box cut': ('deepfashion', 'Anno_coarse/list_bbox.txt', cut(7), 'list_bbox.txt', 'line 7: 3 values where 4 are expected', 'the line is cut', 'unpack'),
    'box of letters': ('deepfashion', 'Anno_coarse/list_bbox.txt', swap('031', '0x1'), 'line 3', "'0x1' is no whole number", 'put back'),
    'images differ': ('deepfashion', 'Anno_coarse/list_bbox.txt', swap('Loud_Tee', 'Loud_Bee'), 'list_bbox.txt', 'img/Loud_Tee/img_00000000.jpg among them', 'unpack'),
    'image twice': ('deepfashion', 'Anno_coarse/list_category_img.txt', twice(4), 'line 5', 'stands in line 4 already', 'keep one'),
    'unknown category': ('deepfashion', 'Anno_coarse/list_category_img.txt', line_of(4, 'img/a.jpg  51'), 'line 4', "'51' is no whole number from 1 to 6", 'put back'),
    'wrong count of categories': ('deepfashion', 'Anno_coarse/list_category_cloth.txt', without_line(6), 'line 1: it says 6 rows, and 5 follow', 'put back the original file', 'correct line 1'),
    'values of attributes': ('deepfashion', 'Anno_coarse/list_attr_img.txt', swap(' 1', ' 2'), 'list_attr_img.txt', "'2' is none of 1, 0, -1", 'put back'),
    'attributes differ': ('deepfashion', 'Anno_coarse/list_attr_cloth.txt', without_line(5), 'list_attr_img.txt', '11 values where 10 are expected', 'another release', 'unpack'),
    'type of attribute': ('deepfashion', 'Anno_coarse/list_attr_cloth.txt', swap('1\n', '9\n'), 'list_attr_cloth.txt', 'from 1 to 5', 'put back'),
    'Latin-1': ('deepfashion', 'Anno_coarse/list_attr_cloth.txt', swap('floral', b'flor\xe9al'), 'line 4: byte 5 of it is not UTF-8', 'unpack'),
    'UTF-16': ('deepfashion', 'Anno_coarse/list_bbox.txt', lambda content: content.decode('utf-8-sig').encode('utf-16'), 'line 1', 'NUL', 'unpack'),
    'NUL': ('deepfashion', 'Anno_coarse/list_attr_img.txt', swap('Loud', 'Lo\0d'), 'line 3: it holds a NUL', 'unpack'),
    'huge line': ('deepfashion', 'Anno_coarse/list_attr_img.txt', lambda content: content + b'x' * 2_000_000, 'line 99: it is longer than 1,000,000 bytes', 'unpack'),
    'huge number': ('deepfashion', 'Anno_coarse/list_category_img.txt', line_of(4, 'img/a.jpg ' + '9' * 9000), 'line 4', 'is no whole number', 'put back'),
    'blank line': ('deepfashion', 'Anno_coarse/list_bbox.txt', line_of(7, ''), 'line 7: it is blank', 'delete it'),
    'no images': ('deepfashion', 'Img', gone, 'img cannot be used', 'there is no such folder', 'Img/img/ (or img/)'),
    'part missing': ('deepfashion_fine', 'Anno_fine/val_attr.txt', gone, 'Anno_fine/val_attr.txt', 'there is no such file', 'unpack'),
    'parts not aligned': ('deepfashion_fine', 'Anno_fine/train_cate.txt', without_line(3), 'train_cate.txt', '63 lines where train.txt has 64', 'unpack the set anew'),
    'part cut': ('deepfashion_fine', 'Anno_fine/train_attr.txt', cut(3), 'train_attr.txt', 'line 3: 10 values where 12 are expected', 'unpack'),
    'image in two parts': ('deepfashion_fine', 'Anno_fine/val.txt', line_of(1, 'img/Loud_Tee/img_00000000.jpg'), 'val.txt', 'stands in train.txt, line 1 already', 'keep one'),
    'empty part': ('deepfashion_fine', 'Anno_fine/val.txt', lambda content: b'', 'val.txt', 'it is', 'unpack'),
    'no label map': ('imaterialist', 'iMat_fashion_2018_label_map_228.csv', gone, 'label_map', 'there is no such file', 'unpack'),
    'label map without names': ('imaterialist', 'iMat_fashion_2018_label_map_228.csv', swap('labelName', 'name'), 'header: no column labelName', 'it must be'),
    'label twice': ('imaterialist', 'iMat_fashion_2018_label_map_228.csv', swap('14,2', '17,2'), 'labelId 17 stands in several rows', 'keep one'),
    'label is a word': ('imaterialist', 'iMat_fashion_2018_label_map_228.csv', swap('14,2', 'x,2'), 'line 8', "'x' is no whole number", 'put back'),
    'label map NUL': ('imaterialist', 'iMat_fashion_2018_label_map_228.csv', swap('Beige', 'Bei\0ge'), 'line 8', 'damaged', 'put back'),
    'label map Latin-1': ('imaterialist', 'iMat_fashion_2018_label_map_228.csv', swap('Beige', b'Bei\xe9'), 'row 8', 'not UTF-8', 'UTF-8'),
    'JSON cut': ('imaterialist', 'train.json', lambda content: content[:len(content) // 2], 'train.json', 'line', 'this is not JSON', 'fetch it anew'),
    'JSON of something else': ('imaterialist', 'train.json', lambda content: b'[1, 2]', 'line 1', '{ is expected, and [ stands here', 'fetch it anew'),
    'JSON empty': ('imaterialist', 'train.json', lambda content: b'', 'line 1', 'the end stands here', 'fetch it anew'),
    'JSON without images': ('imaterialist', 'train.json', lambda content: b'{"info": 3}', 'train.json', 'there is no image', 'fetch'),
    'JSON twice': ('imaterialist', 'train.json', lambda content: content * 2, 'something stands behind the end', 'fetch it anew'),
    'JSON too deep': ('imaterialist', 'train.json', lambda content: b'{"images": ' + b'[' * 200_000, 'line 1', 'this is not JSON', 'fetch'),
    'JSON of one huge text': ('imaterialist', 'train.json', lambda content: b'{"images": ["' + b'x' * 3_000_000, 'line 1', 'this is not JSON', 'fetch'),
    'JSON mis-encoded': ('imaterialist', 'train.json', swap('example', b'ex\xffmple'), 'train.json', 'not UTF-8', 'fetch it anew'),
    'image id twice': ('imaterialist', 'train.json', swap('"imageId": "5"', '"imageId": "6"'), 'train.json', 'image 6 stands in images already', 'keep one'),
    'id is a word': ('imaterialist', 'train.json', swap('"imageId": "5"', '"imageId": "../5"'), "'imageId' must be a whole number and is '../5'", 'put back'),
    'unknown label': ('imaterialist', 'train.json', swap('"92"', '"777"'), 'label 777 is not in the label map', 'same release'),
    'labels are no list': ('imaterialist', 'validation.json', swap('"label_id": [', '"label_id": 3, "more": ['), "'labelId' must be a list", 'put back'),
    'no images of a part': ('imaterialist', 'train', gone, 'train.json', 'none of its images', 'fetch them'),
    'no file names': ('darn', 'filenames_valid.txt', gone, 'filenames_valid.txt', 'there is no such file', 'unpack'),
    'name twice': ('darn', 'filenames_valid.txt', line_of(2, 'pic/train/0.jpg'), 'filenames_valid.txt', 'line 2: pic/train/0.jpg stands in filenames_train.txt, line 1 already', 'keep one'),
    'pairs cut': ('darn', 'label_train.txt', line_of(3, '2\t0\t1\t1'), 'line 3: 4 values', 'the line is cut', 'unpack'),
    'no such image': ('darn', 'query_valid.txt', line_of(3, '16 0 1'), 'query_valid.txt', "line 3: image '16' is no whole number from 0 to 15", 'put back'),
    'no such value': ('darn', 'query_valid.txt', line_of(3, '1 0 20'), 'line 3', "'20' is no whole number from 0 to 19", 'put back'),
    'contradiction': ('darn', 'candidate_valid.txt', lambda content: content + b'0 0 1\n0 0 2\n', 'candidate_valid.txt', 'in another row', 'keep the right one'),
    'no pictures': ('darn', 'pic', gone, 'none of its images', 'fetch them', 'pic/'),
    'no styles': ('fashion_product', 'styles.csv', gone, 'styles.csv', 'there is no such file', 'unpack'),
    'styles without a column': ('fashion_product', 'styles.csv', swap('baseColour', 'colour'), 'line 1', 'baseColour', 'unpack'),
    'style cut': ('fashion_product', 'styles.csv', line_of(4, '10002,Men,Apparel,Topw'), 'line 4: 4 cells where there are 10 columns', 'the line is cut', 'put back'),
    'id is no number': ('fashion_product', 'styles.csv', swap('10001,', '../x,'), "line 3: the id '../x' is no whole number", 'put back'),
    'id twice': ('fashion_product', 'styles.csv', twice(4), 'line 5: id 10002 stands in line 4 already', 'keep one'),
    'no garment': ('fashion_product', 'styles.csv', swap('Apparel', 'Home', -1), 'masterCategory Apparel', 'unpack'),
    'style Latin-1': ('fashion_product', 'styles.csv', swap('Tall', b'T\xe9ll'), 'line 2', 'not UTF-8', 'unpack'),
    'product cut': ('fashion_product', 'styles/10000.json', lambda content: content[:40], 'styles', '10000.json: line 1: this is not JSON', 'unpack'),
    'product empty': ('fashion_product', 'styles/10000.json', lambda content: b'{}', '10000.json', "no 'data' with 'articleAttributes'", 'unpack'),
    'product mis-encoded': ('fashion_product', 'styles/10000.json', swap('meta', b'm\xffta'), '10000.json: byte', 'not UTF-8', 'unpack'),
    'value is no text': ('fashion_product', 'styles/10000.json', swap('"Pattern": ', '"Pattern": 3, "Other": '), '10000.json', 'is expected to be text', 'put back'),
    'no catalogue images': ('fashion_product', 'images', gone, 'images cannot be used', 'there is no such folder', 'unpack'),
}

@pytest.fixture(scope='session')
def originals(tmp_path_factory):
    "Imitations of a few images, to be copied."
    folder = tmp_path_factory.mktemp('originals')
    return folder, {name: write(folder/name, pictures=False) for name, write in IMITATIONS.items()}

@pytest.mark.parametrize('what', WRONG)
def test_a_folder_that_cannot_be_used(what, originals, tmp_path):
    name, file, change, *parts = WRONG[what]
    shutil.copytree(originals[0]/name, tmp_path/'set')
    path = tmp_path/'set'/file
    if change: path.write_bytes(change(path.read_bytes()))
    elif path.is_dir(): shutil.rmtree(path)
    else: path.unlink()
    with pytest.raises(AnnotationError) as error: load_dataset(name, root=tmp_path/'set', store=tmp_path/'store')
    for part in parts: assert part in str(error.value), str(error.value)
    assert not (tmp_path/'store').exists()

@pytest.mark.parametrize('name', READERS)
def test_a_folder_that_is_not_there_or_empty(name, tmp_path):
    for root in None, tmp_path/'nowhere', tmp_path:
        with pytest.raises(AnnotationError) as error: load_dataset(name, root=root)
        assert LAYOUTS[name] in str(error.value)

def test_what_is_not_known_is_listed():
    with pytest.raises(ValueError) as error: load_dataset('deepfasion')
    for name in READERS: assert name in str(error.value)
    with pytest.raises(ValueError, match="no option rot; known: root, image_size, types, max_unreadable, store"): load_dataset('darn', rot='x')

def test_a_type_that_a_benchmark_does_not_have(originals):
    with pytest.raises(AnnotationError, match="no attribute type 'shape': known are category, color"): load_dataset('imaterialist', root=originals[0]/'imaterialist', types=['shape'])

def test_all_bad_lines_are_named_at_once(originals, tmp_path):
    shutil.copytree(originals[0]/'deepfashion', tmp_path/'set')
    path = tmp_path/'set/Anno_coarse/list_bbox.txt'
    path.write_bytes(cut(7)(cut(12)(path.read_bytes())))
    with pytest.raises(AnnotationError) as error: READERS['deepfashion'](tmp_path/'set')
    assert len(error.value.problems) == 2 and 'line 7' in str(error.value) and 'line 12' in str(error.value)

# --- damage at random

def shuffled(path, content, chance):
    "The same rows in another order, where the order means nothing."
    if path.suffix == '.json' and path.parent.name != 'styles':
        record = json.loads(content)
        for rows in record.values():
            if isinstance(rows, list): chance.shuffle(rows)
        return json.dumps(record).encode()
    head = 2 if path.name.startswith('list_') else 1 if path.suffix == '.csv' else 0
    if path.suffix == '.json' or path.name.endswith('_cloth.txt') or 'filenames' in path.name or 'Anno_fine' in path.parts: return content
    lines = content.removesuffix(b'\n').removesuffix(b'\r').split(b'\n')
    rows = [line.rstrip(b'\r') for line in lines[head:]]
    chance.shuffle(rows)
    return b'\n'.join([*lines[:head], *rows]) + b'\n'

def doubled(path, content, chance):
    return twice(chance.randint(1, content.count(b'\n') + 1))(content)

def inserted(*what): return lambda path, content, chance: (lambda k: content[:k] + chance.choice(what) + content[k:])(chance.randrange(len(content) + 1))

SAME = {'as it is': lambda path, content, chance: content, 'CRLF': lambda path, content, chance: content.replace(b'\r\n', b'\n').replace(b'\n', b'\r\n'),
        'BOM': lambda path, content, chance: codecs.BOM_UTF8 + content.removeprefix(codecs.BOM_UTF8), 'blank end': lambda path, content, chance: content + b'\n\n', 'shuffled': shuffled}
REFUSED = {'not UTF-8': inserted(b'\xff', b'\xc3\x28', b'\xed\xa0\x80'), 'NUL': inserted(b'\0')}
EITHER = {'doubled': doubled, 'cut': lambda path, content, chance: content[:chance.randrange(len(content) + 1)]}
ANYTHING = {'inserted': inserted(*(bytes([b]) for b in range(1, 128)), '\u2028'.encode(), '٣'.encode(), b'9' * 5000, b'"' * 9, b'\n\n\n', b'{[' * 99),
            'changed': lambda path, content, chance: (lambda k: content[:k] + bytes([chance.randrange(1, 128)]) + content[k + 1:])(chance.randrange(len(content))),
            'piece lost': lambda path, content, chance: (lambda k: content[:k] + content[k + chance.randrange(1, 40):])(chance.randrange(len(content)))}
DAMAGE = SAME | REFUSED | EITHER | ANYTHING

def nothing_invented(table, truth):
    "Assert that every image and label of a table stands in the imitation, too."
    truth = truth.set_index('image')
    for _, row in table.iterrows():
        assert row['image'] in truth.index
        for kind in type_columns(truth): assert set(split_values(row[kind])) <= set(split_values(truth[kind][row['image']]))

@pytest.fixture(scope='session')
def little_ones(tmp_path_factory):
    folder = tmp_path_factory.mktemp('little ones')
    return folder, {name: write(folder/name, 18, pictures=False) for name, write in IMITATIONS.items()}

def damage_and_read(name, folder, truth, how, seed):
    "Damage one file of a set, read it, put the file back; the table or the error, what was said, and the file."
    chance = random.Random(seed)
    files = sorted(path for path in (folder/name).rglob('*') if path.suffix in ('.txt', '.csv', '.json'))
    path = chance.choice(files)
    content, said = path.read_bytes(), io.StringIO()
    try:
        path.write_bytes(DAMAGE[how](path, content, chance))
        with contextlib.redirect_stderr(said):
            try: return READERS[name](folder/name), None, said.getvalue(), path
            except AnnotationError as error: return None, error, said.getvalue(), path
    finally: path.write_bytes(content)

@pytest.mark.parametrize('name', IMITATIONS)
def test_fuzz(name, little_ones):
    "Whatever happens to a file: what it says is read right, or there is one `AnnotationError`."
    folder, truths = little_ones
    @settings(max_examples=int(os.environ.get('MTSS_FUZZ', 30)), deadline=None, database=None, derandomize='MTSS_FUZZ' not in os.environ, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(sorted(DAMAGE)), st.integers(0, 2**32))
    def check(how, seed):
        table, error, said, path = damage_and_read(name, folder, truths[name], how, seed)
        if how in SAME: assert error is None, error
        if how in REFUSED: assert error is not None
        if error is not None: assert error.problems and str(error).startswith(error.source) and all(': ' in problem for problem in error.problems)
        elif how in SAME or how == 'doubled': as_written(table, truths[name])
        elif how == 'cut' and not said.count('no end') and path.name != 'iMat_fashion_2018_label_map_228.csv': nothing_invented(table, truths[name])
    check()
