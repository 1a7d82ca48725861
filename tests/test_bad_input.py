"""Whatever is brought: the message says where, why and what to do, and what existed before is unchanged."""
import errno, io, json, os, random, shutil, struct, subprocess, sys, unicodedata, zlib
from pathlib import Path
import numpy as np, pandas as pd, pytest, torch
from PIL import Image, features
from safetensors.torch import save_file
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import nn
from conftest import ROOT, little, papermill, photo, snapshot, trained, write_table
from mtss.checks import check_dataset
from mtss.crops import find_boxes
from mtss.datasets import ImageError, TooManyUnreadable, load_dataset, read_image, with_splits
from mtss.experiments import run_or_read_models
from mtss.losses import check_beta, check_gamma
from mtss.models import Backbone, BorrowedTeacher
from mtss.runs import IDENTITY, keep_rows, load_for, measure_replicate, plan, resolve, run_or_read, train_student, train_teachers
from mtss.schema import AnnotationError, read_table
from mtss.store import ChunkedArray, StoreError, atomic_write, store_root, write_together
from mtss.tagger import Tagger
from mtss.training import CheckpointError, Schedule, fit, load_tensors, save_tensors
from mtss.verdicts import is_synthetic

def refused(error, *parts):
    "Assert that the message of a caught error holds some parts: place, cause, remedy."
    for part in parts: assert part in str(error.value)

# --- the annotation table

GOOD = ['image,split,category,pattern', 'a.png,train,dress,dots', 'b.png,train,shirt,solid', 'c.png,val,dress,solid', 'd.png,test,shirt,dots']
def edited(row, old, new): return '\n'.join(line.replace(old, new) if n == row else line for n, line in enumerate(GOOD, 1))
def without(old, new): return '\n'.join(line.replace(old, new) for line in GOOD)

TABLES = {
    'no image column': (edited(1, 'image', 'file'), 'header', "no column 'image'", "name the column of image paths 'image'"),
    'empty': ('', 'annotations.csv', 'the file is empty', 'its first row must name the columns'),
    'blank': ('\n\n', 'annotations.csv', 'the file is empty', 'its first row must name the columns'),
    'header only': (GOOD[0], 'below the header', 'there is no row', 'add one row per image'),
    'no type': ('image,split\na.png,train\n', 'header', 'no attribute type', 'add a column for each'),
    'column twice': (edited(1, 'pattern', 'category'), 'header', "column 'category' appears twice", 'rename or delete one'),
    'unknown split': (edited(4, 'val', 'valid'), "row 4, column 'split'", "'valid' is not one of train, val, test, unlabeled", 'correct it'),
    'no val': (edited(4, 'val', 'train'), "column 'split'", "no row is 'val'", 'the best model is chosen', 'mark some rows'),
    'image twice': (edited(5, 'd.png', 'a.png'), "row 2 and row 5, column 'image'", "'a.png' appears 2 times", 'keep one row'),
    'image twice, by two paths': (edited(5, 'd.png', './/./a.png'), "row 2 and row 5, column 'image'", "'a.png' appears 2 times", 'keep one row'),
    'no image': (edited(3, 'b.png', ''), "row 3, column 'image'", 'empty', 'delete the row'),
    'one class': (without('shirt', 'dress'), "column 'category'", "only the class 'dress'", 'remove the column'),
    'no class': (without('shirt', '').replace('dress', ''), "column 'category'", 'no class', 'remove the column'),
    'class of test only': (edited(5, 'shirt', 'skirt'), "row 5, column 'category'", "class 'skirt' has no row of split train", 'move some of its rows to train'),
    'empty value': (edited(3, 'shirt', 'shirt|'), "row 3, column 'category'", "empty value beside |", 'remove the superfluous |'),
    'long row': (edited(4, 'solid', 'solid,more'), 'row 4', '5 cells where the header has 4', 'quote a value that holds a comma'),
    'long first row': (edited(2, 'dots', 'dots,more'), 'row 2', '5 cells where the header has 4', 'quote a value that holds a comma'),
    'every row long': ('\n'.join([GOOD[0], *(f'{line},more' for line in GOOD[1:])]), 'row 2', '5 cells where the header has 4', 'quote a value that holds a comma'),
    'short row': (edited(3, ',solid', ''), 'row 3', '3 cells where the header has 4', 'quote a value that holds a comma'),
    'open quote': (edited(3, 'b.png', '"b.png'), 'row 3', 'a quote is opened and never closed', 'close it'),
    'open quote in a long table': ('\n'.join([*GOOD[:2], 'b.png,train,"shirt,solid', *GOOD[3:] * 9000]), 'row 3', 'a quote is opened and never closed', 'close it'),
    "a spreadsheet's note": ('\n'.join(['sep=,', *GOOD]), 'row 1', 'a note for spreadsheets', 'delete it'),
    'blank first line': ('\n'.join(['', *GOOD]), 'row 1', 'it is blank', 'delete it'),
    'commas at the ends': ('\n'.join([GOOD[0], *(f'{line},' for line in GOOD[1:])]), f'rows 2 to {len(GOOD)}', 'each ends in a comma', 'delete those commas'),
    'column without a name': ('\n'.join([GOOD[0] + ',', *(f'{line},ok' for line in GOOD[1:])]), 'header', 'column 5 has no name', 'name it, delete it'),
    'blank line': ('\n'.join([*GOOD[:3], '', *GOOD[3:]]), 'row 4', 'blank', 'delete it'),
    'not UTF-8': (edited(3, 'shirt', 'chemisé').encode('latin-1'), 'row 3', 'is not UTF-8', 'save the file as "CSV UTF-8"', "encoding='cp1252'"),
    'not UTF-8, with semicolons': (edited(3, 'shirt', 'chemisé').replace(',', ';').encode('latin-1'), 'row 3', 'is not UTF-8', 'save the file as "CSV UTF-8"', "sep=';', encoding='cp1252'"),
    'UTF-16': ('\n'.join(GOOD).encode('utf-16'), 'row 1', 'is not UTF-8', 'save the file as "CSV UTF-8"', "encoding='utf-16'"),
    'semicolons': ('\n'.join(GOOD).replace(',', ';'), 'header', "separated by ';'", 'save the file with commas', "sep=';'"),
    'tabs': ('\n'.join(GOOD).replace(',', '\t'), 'header', "separated by '\\t'", 'save the file with commas'),
    'capital split': (edited(1, 'split', 'Split'), 'header', "column 'Split' is not 'split'", 'write it in small letters'),
    'half a box': ('\n'.join([GOOD[0] + ',x0,y0', *(f'{line},1,2' for line in GOOD[1:])]), 'header', 'columns x0, y0 without x1, y1', 'a box needs all four, or none'),
    'box upside down': ('\n'.join([GOOD[0] + ',x0,y0,x1,y1', *(f'{line},0,0,4,4' for line in GOOD[1:4]), GOOD[4] + ',5,5,2,2']), 'row 5', '5 5 2 2 is no box', '0 ≤ x0 < x1'),
} | {f'climbs by {path}': (edited(5, 'd.png', path), "row 5, column 'image'", 'leaves the table\'s folder', 'use a path inside it')
     for path in ('../x', '/etc/x', 'a/../../x', 'C:\\x', '..\\x', 'C:x', '\\\\host\\x', '..')}

@pytest.mark.parametrize('name', TABLES)
def test_a_table_that_cannot_be_used(name, tmp_path, store):
    content, *parts = TABLES[name]
    write_table(tmp_path/'earlier', 20)
    load_dataset(tmp_path/'earlier/annotations.csv', image_size=16)
    path = tmp_path/'photos/annotations.csv'
    path.parent.mkdir()
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = snapshot(tmp_path)
    with pytest.raises(AnnotationError) as error: load_dataset(path, image_size=16)
    refused(error, 'annotations.csv', *parts)
    assert snapshot(tmp_path) == before

@pytest.mark.parametrize('separator, encoding', [(separator, encoding) for separator in ',;\t' for encoding in ('utf-8', 'cp1252', 'utf-16') if (separator, encoding) != (',', 'utf-8')])
def test_the_line_that_mends_a_spreadsheets_table_does(separator, encoding, tmp_path):
    path = tmp_path/'annotations.csv'
    path.write_bytes(edited(3, 'shirt', 'chemisé').replace(',', separator).encode(encoding))
    with pytest.raises(AnnotationError) as error: read_table(path)
    exec(str(error.value).split('by pandas: ')[1], dict(pd=pd, file=path))
    assert read_table(path).loc[1].tolist()[2] == 'chemisé'

def test_blank_lines_at_the_end_do_not_matter(tmp_path):
    for end in '', '\n', '\n\n\n', '\r\n':
        (tmp_path/'annotations.csv').write_text('\n'.join(GOOD) + end)
        assert len(read_table(tmp_path/'annotations.csv')) == 4

def test_every_problem_of_a_table_is_named_at_once(tmp_path, store):
    path = tmp_path/'annotations.csv'
    path.write_text(edited(4, 'val', 'valid').replace('d.png', '../d.png'))
    with pytest.raises(AnnotationError) as error: load_dataset(path)
    refused(error, 'row 4', 'row 5')

def test_a_table_that_is_not_there(tmp_path, store):
    with pytest.raises(AnnotationError) as error: load_dataset(tmp_path/'nowhere.csv')
    refused(error, 'nowhere.csv', 'there is no file', 'give the path')
    assert not store.exists()

def test_splits_that_are_dealt_out_leave_no_class_without_training_images(tmp_path, store):
    path = write_table(tmp_path/'photos', 100)
    lines = [line.split(',') for line in path.read_text().splitlines()]
    for n in range(1, 100, 7): lines[n][2] = f'rare {n}'
    path.write_text('\n'.join(','.join([line[0], *line[2:]]) for line in lines) + '\n')
    data = load_dataset(path, image_size=16)
    assert set(data.table['split']) == {'train', 'val', 'test'} and len(data.schema['category']) == 3 + len(range(1, 100, 7))

# --- files that cannot be read as images

def png(depth, colour, rows):
    "A PNG file by hand; rows: height × width × channels."
    height, width = rows.shape[:2]
    raw = b''.join(b'\0' + row.astype('>u2' if depth == 16 else 'u1').tobytes() for row in rows)
    def chunk(kind, data): return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, 0)) + chunk(b'IDAT', zlib.compress(raw)) + chunk(b'IEND', b'')

def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()

def bomb():
    "A PNG of a hundred bytes that says it is 50000 × 50000."
    header = struct.pack('>II', 50_000, 50_000)
    whole = png(8, 2, photo(0))
    chunk = b'IHDR' + header + whole[24:29]
    return whole[:8] + struct.pack('>I', 13) + chunk + struct.pack('>I', zlib.crc32(chunk)) + whole[33:]

JPEG = encoded(Image.fromarray(photo(0, 64)), 'JPEG', quality=95)
BAD_FILES = {
    'missing': (None, 'there is no such file', 'check the path'),
    'folder': ('folder', 'there is no such file', 'check the path'),
    'empty': (b'', 'the file is empty', 'replace'),
    'cut short': (JPEG[:len(JPEG) // 2], 'damaged', 'replace'),
    'cut at the start': (JPEG[:20], 'not an image', 'JPEG'),
    'text': (b'<!DOCTYPE html>' * 9, 'not an image', 'JPEG'),
    'a program for a printer': (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n' + b'0 0 9 9 rectfill\n' * 9, 'not an image', 'JPEG'),
    'bomb': (bomb(), '60,000,000', 'shrink it'),
}

def spoil(path, content):
    "Put something else where an image was."
    path.unlink()
    if content == 'folder': path.mkdir()
    elif content is not None: path.write_bytes(content)

@pytest.mark.parametrize('name', BAD_FILES)
def test_an_image_that_cannot_be_read(name, tmp_path):
    content, cause, remedy = BAD_FILES[name]
    path = tmp_path/'photo.png'
    path.touch()
    spoil(path, content)
    before = snapshot(tmp_path)
    with pytest.raises(ImageError) as error: read_image(path, 16)
    refused(error, cause, remedy)
    assert snapshot(tmp_path) == before

def test_some_bad_images_among_many_are_named_and_left_out(tmp_path, store, capfd):
    path = write_table(tmp_path/'photos', 200)
    whole = load_dataset(path, image_size=16)
    bad = {f'images/{20 * n}.png': content for n, content in enumerate(BAD_FILES.values())}
    for image, (content, *_) in bad.items(): spoil(path.parent/image, content)
    before = snapshot(path.parent)
    data = load_dataset(path, image_size=16)
    report = capfd.readouterr().err
    assert f'{len(bad)} of 200 images' in report and 'left out' in report and 'mend' in report.lower()
    for image, (_, cause, _) in bad.items():
        assert cause in data.unreadable[image]
        assert any(image in line and cause in line for line in report.splitlines())
    lost = data.table['image'].isin(bad)
    assert list(data.table['split'] == 'unreadable') == list(lost) and data.unreadable.keys() == bad.keys()
    assert np.array_equal(data.pixels[~lost], whole.pixels[~lost])
    assert not set(data.rows('train', 'val', 'test', 'unlabeled')) & set(np.flatnonzero(lost))
    assert snapshot(path.parent) == before
    again = load_dataset(path, image_size=16)                      # from the store: named again
    assert again.unreadable == data.unreadable and 'images/0.png' in capfd.readouterr().err
    settings = little(kept_embeddings=400)
    train_student(data, train_teachers(data, 1, settings), 1, settings)

def test_a_missing_image_whose_accents_are_encoded_otherwise_is_named(tmp_path, store):
    path = write_table(tmp_path/'photos', 60)
    (path.parent/'images/0.png').rename(path.parent/'images'/unicodedata.normalize('NFD', 'grün.png'))
    if (path.parent/'images/grün.png').exists(): pytest.skip('encodings do not tell files apart on this disk')
    path.write_text(path.read_text().replace('images/0.png', 'images/grün.png'))
    (reason,) = load_dataset(path, image_size=16).unreadable.values()
    assert reason.endswith('is there, its accents encoded in another way)')

def test_a_missing_image_whose_name_differs_by_capitals_or_ending_is_named(tmp_path, store, capfd):
    path = write_table(tmp_path/'photos', 60)
    images = path.parent/'images'
    (images/'0.png').rename(images/'0.PNG')
    if (images/'0.png').exists(): pytest.skip('capitals do not tell files apart on this disk')
    (images/'20.png').rename(images/'20.jpeg')
    (images/'40.png').unlink()
    hints = {'images/0.png': '(0.PNG is there)', 'images/20.png': '(20.jpeg is there)', 'images/40.png': 'check the path'}
    assert (opened := check_dataset(path).set_index('check').loc['images that open', 'what to do']).count('is there') == 2
    assert all(hint in opened for hint in hints.values())
    for _ in range(2):                                              # read, and from the store
        unreadable = load_dataset(path, image_size=16, max_unreadable=.1).unreadable
        assert unreadable.keys() == hints.keys() and all(unreadable[image].endswith(hint) for image, hint in hints.items())
        assert '(0.PNG is there)' in capfd.readouterr().err
    with pytest.raises(TooManyUnreadable) as error: load_dataset(path, image_size=16, max_unreadable=.01)
    refused(error, 'images/20.png', '20.jpeg is there')
    for image, hint in {'0.png': '0.PNG', '20.png': '20.jpeg'}.items(): (images/hint).rename(images/image)
    assert load_dataset(path, image_size=16, max_unreadable=.1).unreadable.keys() == {'images/40.png'}

def test_a_disk_that_fails_for_a_moment_is_not_the_images_fault(tmp_path, store, monkeypatch):
    path, plain = write_table(tmp_path/'photos', 40), Path.read_bytes
    def failing(file):
        if file.name == '7.png': raise OSError(errno.EIO, 'Input/output error')
        return plain(file)
    with monkeypatch.context() as patch, pytest.raises(ImageError) as error:
        patch.setattr(Path, 'read_bytes', failing)
        load_dataset(path, image_size=16).pixels
    refused(error, '7.png', 'Input/output error', 'start again')
    data = load_dataset(path, image_size=16)
    assert (data.pixels[7] == photo(7)).all() and 'unreadable' not in set(data.table['split'])

def test_too_many_bad_images_stop_the_run(tmp_path, store):
    path = write_table(tmp_path/'photos', 100)
    bad = [f'images/{n}.png' for n in range(0, 60, 10)]
    for image in bad: spoil(path.parent/image, b'no picture')
    before = snapshot(path.parent)
    with pytest.raises(TooManyUnreadable) as error: load_dataset(path, image_size=16)
    refused(error, '6 of 100 images', 'cannot be read', '5%', 'Mend or remove them', 'max_unreadable', *bad)
    assert len(load_dataset(path, image_size=16, max_unreadable=.06).unreadable) == 6
    assert snapshot(path.parent) == before

@pytest.mark.parametrize('what, spoiled, parts', [
    ('a split', lambda row: row[1] == 'val', ["'val'", 'cannot be read']),
    ('a class', lambda row: row[1] == 'train' and row[3] == 'dots', ["'pattern'", 'cannot be read'])], ids=['split', 'class'])
def test_bad_images_that_take_a_whole_split_or_class_along(what, spoiled, parts, tmp_path, store):
    path = write_table(tmp_path/'photos', 60)
    lines = path.read_text().splitlines()
    rows = [line.split(',') for line in lines[1:]]
    for n, row in enumerate(rows):                                  # leave one photo of what is to be lost
        if spoiled(row) and n > 20: row[1:] = ['train', 'dress', '']
    path.write_text('\n'.join([lines[0], *map(','.join, rows)]) + '\n')
    lost = [row[0] for row in rows if spoiled(row)]
    for image in lost: spoil(path.parent/image, b'no picture')
    with pytest.raises((AnnotationError, TooManyUnreadable)) as error: load_dataset(path, image_size=16, max_unreadable=.5)
    refused(error, *parts, lost[0])

@pytest.mark.filterwarnings('ignore')                               # Pillow says which of them is odd
def test_a_damaged_file_is_an_image_error_whatever_is_damaged():
    "Files cut or changed at random, in many formats: an image or an `ImageError`, never anything else."
    chance, picture = random.Random(0), Image.fromarray(photo(0, 32))
    rotated = Image.Exif()
    rotated[0x0112] = 6
    kinds = {'JPEG': dict(exif=rotated), 'PNG': dict(exif=rotated), 'WEBP': dict(exif=rotated), 'TIFF': dict(compression='tiff_lzw'), 'BMP': {}, 'PPM': {}, 'TGA': {}, 'ICO': {}}
    files = [encoded(picture, kind, **options) for kind, options in kinds.items()] + [encoded(picture.quantize(16), 'GIF'), png(16, 0, photo(0).astype(np.uint16)[..., :1] * 257)]
    if features.check('avif'): files.append(encoded(picture, 'AVIF'))
    for file in files:
        for n in range(150):
            damaged = bytearray(file)
            if n % 3 == 0: damaged = damaged[:chance.randrange(len(file))]
            else:
                for _ in range(chance.choice([1, 4, 20])): damaged[chance.randrange(min(len(file), 200) if n % 3 == 1 else len(file))] = chance.randrange(256)
            try: assert read_image(bytes(damaged), 16).shape == (16, 16, 3)
            except ImageError: pass

# --- images of every kind, which must come out right

def colours(size=16):
    "Four quarters: red, green / blue, grey."
    image = np.empty((size, size, 3), np.uint8)
    half = size // 2
    image[:half, :half], image[:half, half:], image[half:, :half], image[half:, half:] = (200, 30, 40), (20, 180, 60), (30, 60, 210), (120, 120, 120)
    return image

RGB = colours()
GREY = np.asarray(Image.fromarray(RGB).convert('L'))
ALPHA = np.repeat(np.array([0, 85, 170, 255], np.uint8), 4)[None].repeat(16, 0)
def on_white(image, alpha): return np.round(alpha[..., None] / 255 * image + (1 - alpha[..., None] / 255) * 255)
def three(grey): return np.repeat(grey[..., None], 3, axis=2)
CMYK = Image.fromarray(RGB).convert('CMYK')
PALETTE = Image.fromarray(RGB).quantize(4, dither=Image.Dither.NONE)
FIRST = int(np.asarray(PALETTE)[0, 0])            # the palette's number of red, made transparent below

KINDS = {                                         # the file, the pixels, the largest difference
    'grey': (encoded(Image.fromarray(GREY), 'PNG'), three(GREY), 0),
    'grey JPEG': (encoded(Image.fromarray(GREY), 'JPEG', quality=100), three(GREY), 3),
    'black and white': (encoded(Image.fromarray(GREY > 100), 'PNG'), three((GREY > 100) * 255), 0),
    'CMYK': (encoded(CMYK, 'TIFF'), RGB, 2),
    'CMYK JPEG': (encoded(CMYK, 'JPEG', quality=100), RGB, 6),
    'alpha': (encoded(Image.fromarray(np.dstack([RGB, ALPHA])), 'PNG'), on_white(RGB, ALPHA), 1),
    'grey with alpha': (encoded(Image.fromarray(np.dstack([GREY, ALPHA]), 'LA'), 'PNG'), on_white(three(GREY), ALPHA), 1),
    '16-bit grey': (png(16, 0, GREY[..., None].astype(np.uint16) * 257), three(GREY), 0),
    '16-bit colour': (png(16, 2, RGB.astype(np.uint16) * 257), RGB, 0),
    '16-bit grey with alpha': (png(16, 4, np.dstack([GREY, ALPHA]).astype(np.uint16) * 257), on_white(three(GREY), ALPHA), 1),
    '16-bit TIFF': (encoded(Image.fromarray(GREY.astype(np.uint16) * 257), 'TIFF'), three(GREY), 0),
    'palette': (encoded(PALETTE, 'PNG'), RGB, 1),
    'palette with a transparent colour': (encoded(PALETTE, 'PNG', transparency=FIRST), np.where((RGB == RGB[0, 0]).all(2)[..., None], 255, RGB), 1),
    'GIF': (encoded(PALETTE, 'GIF'), RGB, 1),
}

@pytest.mark.parametrize('name', KINDS)
def test_every_kind_of_image_is_read_right(name, tmp_path):
    file, pixels, tolerance = KINDS[name]
    path = tmp_path/'photo'
    path.write_bytes(file)
    for source in path, file, Image.open(path):
        found = read_image(source, 16)
        assert found.dtype == np.uint8 and found.shape == (16, 16, 3)
        assert np.abs(found.astype(int) - pixels).max() <= tolerance

TURN = {1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270}   # how a camera lays the picture down

@pytest.mark.parametrize('orientation', TURN)
@pytest.mark.parametrize('kind, tolerance', [('PNG', 0), ('JPEG', 8)])
def test_an_image_that_is_rotated_by_exif_stands_upright(kind, tolerance, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    large = Image.fromarray(colours(128))                                       # a JPEG this large is decoded at a smaller scale
    laid_down = large if TURN[orientation] is None else large.transpose(TURN[orientation])
    file = encoded(laid_down, kind, exif=exif, **(dict(quality=100, subsampling=0) if kind == 'JPEG' else {}))
    inner = [slice(2, 6), slice(10, 14)]                                        # away from the edges between the colours
    for found, wanted in (read_image(file, 16), RGB), (read_image(file, 16, (64, 0, 128, 64)), RGB[:8, 8:].repeat(2, 0).repeat(2, 1)):
        for rows in inner:
            for columns in inner: assert np.abs(found[rows, columns].astype(int) - wanted[rows, columns]).max() <= tolerance

# --- numbers and names

NUMBERS = [-1, -.5, 'two', '1', float('nan'), float('inf'), True, None, [1]]

@pytest.fixture(scope='module')
def unseen(tmp_path_factory):
    "A dataset whose images nobody has drawn."
    return load_for('synthetic', little(), store=tmp_path_factory.mktemp('never written'))

def why_not(value): return 'is out of range' if type(value) in (int, float) else 'is not a number'

@pytest.mark.parametrize('value', NUMBERS, ids=repr)
def test_gamma_is_a_number_of_at_least_0(value, unseen, store, tmp_path):
    for use in (check_gamma, lambda gamma: train_teachers(unseen, gamma, little()), lambda gamma: plan(unseen, gamma, 1, little()),
                lambda gamma: measure_replicate('synthetic', little(), gamma), lambda gamma: run_or_read(tmp_path/'rows/table1.csv', 'synthetic', 'smoke', gamma)):
        with pytest.raises((TypeError, ValueError)) as error: use(value)
        refused(error, f'gamma={value!r}', 'give a', 'number of at least 0')
        assert why_not(value) in str(error.value) or isinstance(value, str) and "or 'tune'" in str(error.value)      # a run takes one text, and says which
    assert not (store/'runs').exists() and not (tmp_path/'rows').exists()

@pytest.mark.parametrize('value', NUMBERS, ids=repr)
def test_beta_is_a_number_of_at_least_0(value, unseen, store, tmp_path):
    teachers = {kind.name: BorrowedTeacher(torch.flatten, torch.ones(len(kind), 2), 'nobody') for kind in unseen.schema}
    for use in (check_beta, lambda beta: train_student(unseen, teachers, beta, little()), lambda beta: plan(unseen, 1, beta, little()),
                lambda beta: measure_replicate('synthetic', little(), 1, beta), lambda beta: run_or_read(tmp_path/'rows/table1.csv', 'synthetic', 'smoke', 1, beta)):
        with pytest.raises((TypeError, ValueError)) as error: use(value)
        refused(error, f'beta={value!r}', why_not(value), 'give a', 'number of at least 0')
    assert not (store/'runs').exists() and not (tmp_path/'rows').exists()

NAMES = {
    'preset': (lambda: resolve('huge'), "preset 'huge'", 'known: smoke, tiny, small, paper'),
    'field of a preset': (lambda: resolve('smoke', dims=3), 'dims', 'known: sizes, image_size'),
    'field of a schedule': (lambda: resolve('smoke', teacher=dict(step=3)), 'step', 'known: steps, batch'),
    'schedule': (lambda: resolve('smoke', teacher=dict(shape='cosine')), "schedule 'cosine'", 'known: halving, one_cycle'),
    'warmup': (lambda: Schedule(10, warmup=-3), 'warmup=-3', 'from 0 for warmup'),
    'evaluation': (lambda: Schedule(10, evaluate_every=0), 'evaluate_every=0', 'from 1 for the others'),
    'half a step': (lambda: Schedule(2.5), 'steps=2.5', 'give whole numbers'),
    'backbone': (lambda: Backbone('vgg'), "backbone 'vgg'", 'known: small, resnet18'),
    'backbone of a preset': (lambda: train_teachers(load_for('synthetic', little()), 1, little(backbone='vgg')), "backbone 'vgg'", 'known: small, resnet18'),
    'size of a view': (lambda: resolve('smoke', view_size=48), 'view_size=48', 'larger than image_size=32'),
    'negatives': (lambda: train_teachers(load_for('synthetic', little()), 1, little(negatives='none')), "negatives 'none'", 'known: separate, in_batch'),
    'dataset': (lambda: load_dataset('fashion'), "dataset 'fashion'", 'give one of synthetic, deepfashion', 'or the path of an annotation table'),
    'option': (lambda: load_dataset('synthetic', trian=9), "'synthetic' has no option trian", 'known: image_size, train'),
    'option of a table': (lambda: load_dataset('annotations.csv', seed=9), "'annotations.csv' has no option seed", 'known: image_size, types'),
    'domain': (lambda: load_dataset('synthetic', domain='moon'), "domain 'moon'", 'known: studio, packshot, street'),
    'number of images': (lambda: load_dataset('synthetic', train=0), "'train': 0", 'needs at least one image'),
    'gamma of a type': (lambda: train_teachers(load_for('synthetic', little()), dict(category=1), little()), 'pattern', 'gamma'),
}

@pytest.mark.parametrize('name', NAMES)
def test_an_unknown_name_is_refused_with_the_known_ones(name, store):
    use, *parts = NAMES[name]
    with pytest.raises(ValueError) as error: use()
    refused(error, *parts)
    assert not snapshot(store)                       # nothing was begun

def test_a_type_that_the_table_does_not_have(tmp_path, store):
    with pytest.raises(AnnotationError) as error: load_dataset(write_table(tmp_path/'photos'), types=['category', 'colour'])
    refused(error, 'annotations.csv', "no column 'colour'", 'types found: category, pattern')
    assert not store.exists()

def test_types_are_chosen_for_a_whole_run(tmp_path, store):
    with pytest.raises(AnnotationError) as error: run_or_read(tmp_path/'rows/table1.csv', write_table(tmp_path/'photos'), 'smoke', types=['colour'])
    refused(error, 'annotations.csv', "no column 'colour'")
    with pytest.raises(ValueError) as error: run_or_read(tmp_path/'rows/table1.csv', 'synthetic', 'smoke', types=['colour'])
    refused(error, "'synthetic' has no option types")
    assert not (store/'runs').exists() and not (tmp_path/'rows').exists()

def test_a_pool_smaller_than_a_batch_is_refused_before_a_teacher_is_trained(tmp_path, store):
    small = little(sizes=dict(train=5, val=40, test=40, unlabeled=2))
    data = load_for('synthetic', small)
    for use in (lambda: measure_replicate('synthetic', small), lambda: plan(data, preset=small)):
        with pytest.raises(ValueError) as error: use()
        refused(error, '7 images in train and unlabeled', 'batch of 8', 'add photos')
    assert not (store/'runs').exists()

def test_what_looks_like_an_oversight_is_said(tmp_path, capsys):
    path = write_table(tmp_path/'photos')
    table = pd.read_csv(path, keep_default_na=False)
    train = table.index[(table['split'] == 'train') & (table['category'] != '')]
    table.loc[train[0], 'category'] = table.loc[train[1], 'category'].upper()
    table.loc[train[0], 'pattern'] = 'n/a'
    table.to_csv(path, index=False)
    before = snapshot(tmp_path/'photos')
    load_dataset(path)
    said = capsys.readouterr().err
    for part in 'annotations.csv', "column 'category'", 'write them alike', "'n/a'", 'leave the cell empty': assert part in said
    assert snapshot(tmp_path/'photos') == before

def test_images_smaller_than_what_the_preset_looks_at(store):
    data = load_for('synthetic', little())
    for use in train_teachers, plan:
        with pytest.raises(ValueError) as error: use(data, preset=little(image_size=32, view_size=32))
        refused(error, 'stored at 16 px', 'looks at 32', 'image_size=32')
    assert not (store/'runs').exists()

def test_replicates_of_one_seed_are_refused(tmp_path, store):
    with pytest.raises(ValueError) as error: run_or_read(tmp_path/'rows/table1.csv', 'synthetic', 'smoke', seed=7)
    refused(error, 'is its seed', 'leave seed out')
    assert not (store/'runs').exists() and not (tmp_path/'rows').exists()

def test_one_network_may_be_the_teacher_of_every_type(tmp_path):
    "Its embeddings are made once; another dictionary makes another student."
    data = load_for('synthetic', little(), store=tmp_path)
    network = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
    def student(scale): return train_student(data, {kind.name: BorrowedTeacher(network, scale * torch.rand(len(kind), 12), 'colours of four corners') for kind in data.schema}, preset=little(), store=tmp_path)
    torch.manual_seed(0); one = student(1)
    torch.manual_seed(1); other = student(1)
    assert one.key != other.key and len(list((tmp_path/'embeddings').iterdir())) == 1

@pytest.mark.parametrize('column', [pd.Categorical(['dress', None]), pd.array([7, None], 'Int64'), [['dress', None, 'skirt'], None], [b'dress', None]], ids=['categories', 'whole numbers', 'lists', 'bytes'])
def test_a_parquet_table_of_other_types_than_text(column, tmp_path):
    pd.DataFrame(dict(image=['a.jpg', 'b.jpg'], category=column)).to_parquet(tmp_path/'t.parquet')
    read = read_table(tmp_path/'t.parquet')
    assert read['category'].tolist() in (['dress', ''], ['7', ''], ['dress|skirt', ''])

def test_columns_that_were_the_index_of_a_parquet_table_are_columns(tmp_path):
    table = pd.read_csv(write_table(tmp_path), dtype=str, keep_default_na=False)
    table.set_index(['split', 'category']).to_parquet(tmp_path/'list.parquet')
    found = read_table(tmp_path/'list.parquet')
    assert set(found.columns) == set(table.columns) and all(found[name].equals(table[name]) for name in table)

def test_a_long_number_beside_a_gap_keeps_its_digits(tmp_path):
    pd.DataFrame(dict(image=['a', 'b'], sku=pd.array([340123450000123457, None], 'Int64'))).to_parquet(tmp_path/'list.parquet')
    assert read_table(tmp_path/'list.parquet')['sku'].tolist() == ['340123450000123457', '']

def test_blanks_before_a_quoted_cell_do_not_matter(tmp_path):
    (tmp_path/'list.csv').write_text('image, split, colour\na.png, train, "red|white"\n')
    assert read_table(tmp_path/'list.csv').loc[0].tolist() == ['a.png', 'train', 'red|white']

def test_values_are_counted_and_not_their_combinations(tmp_path, store):
    "Ten tags, nearly as many combinations as photos: an attribute type all the same."
    path = write_table(tmp_path)
    table, tags = read_table(path), np.random.default_rng(0)
    table.assign(tags=['|'.join(sorted(tags.choice(list('abcdefghij'), 4, replace=False))) for _ in range(len(table))]).to_csv(path, index=False)
    assert len(load_dataset(path, image_size=16).schema['tags']) == 10

def test_a_type_that_is_named_twice(tmp_path, store):
    with pytest.raises(AnnotationError) as error: load_dataset(write_table(tmp_path), types=['category', 'category'])
    refused(error, "'category' is named twice", 'name it once')

def test_garments_of_one_photo_stay_in_one_split(tmp_path):
    n = 300
    table = pd.DataFrame(dict(image=np.repeat([f'{i}.png' for i in range(n)], 2), x0=['0', '8'] * n, y0='0', x1=['8', '16'] * n, y1='16',
                              category=[f'rare {i}' if i % 20 == 0 else '' if i % 3 == 0 else 'dress' for i in range(2 * n)]))
    splits = with_splits(table).groupby('image')['split'].nunique()
    assert (splits == 1).all()

def test_boxes_of_photos_that_were_replaced_since_are_not_used(tmp_path, store):
    path = write_table(tmp_path)
    def detector(image): return [(0, 0, 8, 8, 1.)]
    detector.key = 'corner'
    find_boxes(list(read_table(path)['image']), tmp_path, detector, tmp_path/'boxes.parquet')
    load_dataset(path, image_size=16, boxes=tmp_path/'boxes.parquet')
    Image.fromarray(photo(1000, 32)).save(tmp_path/'images/7.png')
    with pytest.raises(AnnotationError) as error: load_dataset(path, image_size=16, boxes=tmp_path/'boxes.parquet')
    refused(error, 'boxes.parquet', '1 photos have been replaced', 'images/7.png', 'run `mtss.crops.find_boxes` again')

def test_names_that_are_nearly_the_same_are_pointed_out(tmp_path):
    path = write_table(tmp_path)
    table = read_table(path)
    table.loc[[0, 6], 'category'] = 'dres'
    numbers = dict(price='{}.95', euros='{},95 €', day='2026-01-{}', date='{}.01.2026', time='{}:30')
    table.assign(**{name: [written.format(9 + n % 4 * (n > 20)) for n in range(len(table))] for name, written in numbers.items()}).to_csv(path, index=False)
    found = check_dataset(path).set_index('check')
    assert found.loc['category: class names', 'found'].startswith("'dres' (2) for 'dress'") and found.loc['category: class names', 'verdict'] == 'look'
    for name in numbers:
        assert 'numbers, such as' in found.loc[f'{name}: classes', 'found'].tolist()[-1]
        assert f'{name}: class names' not in found.index            # another number is not misspelt

def test_without_a_home_the_store_says_where_it_could_be(monkeypatch):
    for name in ('MTSS_STORE', 'HOME'): monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, 'getuid', lambda: 2**31 - 7)       # nobody
    with pytest.raises(StoreError) as error: store_root()
    refused(error, 'MTSS_STORE')

def test_splits_are_dealt_by_the_types_that_are_taken(tmp_path):
    "A stock number is no class, even in a table without splits."
    table = pd.DataFrame(dict(image=[f'{n}.jpg' for n in range(200)], sku=[f'A{n}' for n in range(200)], category=['dress', 'skirt', '', 'shirt'] * 50))
    split = with_splits(table, ['category'])['split']
    assert {'train', 'val', 'test', 'unlabeled'} == set(split) and (split[table['category'] == ''] == 'unlabeled').all()

def test_photos_in_a_folder_called_synthetic_are_photos(tmp_path):
    assert not is_synthetic(load_dataset(write_table(tmp_path/'synthetic')).name)

@pytest.mark.parametrize('value', [-1, 1.5, 'two', True, None], ids=repr)
def test_replicates_are_counted(value, store, tmp_path):
    with pytest.raises((TypeError, ValueError)) as error: run_or_read(tmp_path/'rows/table1.csv', 'synthetic', 'smoke', replicates=value)
    refused(error, f'replicates={value!r}', 'give a whole number of at least 0')
    assert not (store/'runs').exists() and not (tmp_path/'rows').exists()

def test_the_main_job_refuses_an_unknown_parameter_before_anything_is_made(tmp_path):
    done = papermill('10_table1.ipynb', tmp_path/'out.ipynb', tmp_path/'store', check=False, preset='smoke', out=tmp_path/'rows', gama=1)
    assert done.returncode != 0
    for part in 'unknown parameter gama', 'gamma', 'a number of at least 0', 'dataset', 'replicates', 'dry_run': assert part in done.stderr
    assert not (tmp_path/'store').exists() and not (tmp_path/'rows').exists()

# --- stores and disks

def unwritable(tmp_path):
    "A folder that nobody can make, root included: a file stands where its parent should be."
    (tmp_path/'file').write_text('kept')
    return tmp_path/'file/store'

@pytest.mark.parametrize('use', [store_root, lambda store: load_for('synthetic', little(), store=store).pixels, lambda store: trained(store)], ids=['root', 'images', 'training'])
def test_a_store_that_cannot_be_written(use, tmp_path):
    with pytest.raises(StoreError) as error: use(unwritable(tmp_path))
    refused(error, str(tmp_path/'file/store'), 'cannot write', 'Not a directory', 'MTSS_STORE')
    assert (tmp_path/'file').read_text() == 'kept'

@pytest.mark.parametrize('use', [lambda path: run_or_read(path, 'synthetic', 'smoke'), lambda path: run_or_read_models(path, {('teacher', '1', ''): lambda replicate: replicate.judge(replicate.teachers(1))}, 'synthetic', 'smoke')],
                         ids=['table 1', 'an experiment'])
def test_rows_that_cannot_be_kept_are_refused_before_training(use, tmp_path, store):
    with pytest.raises(StoreError) as error: use(unwritable(tmp_path)/'table1.csv')
    refused(error, str(tmp_path/'file/store'), 'cannot write', 'Not a directory', 'give another path')
    assert not (store/'runs').exists() and (tmp_path/'file').read_text() == 'kept'

@pytest.mark.parametrize('content', ['', 'a,b\n1,2\n'], ids=['empty', 'foreign'])
def test_a_file_of_rows_that_is_something_else(content, tmp_path, store):
    (tmp_path/'table1.csv').write_text(content)
    with pytest.raises(ValueError) as error: run_or_read(tmp_path/'table1.csv', 'synthetic', 'smoke')
    refused(error, 'table1.csv', 'columns', 'give another folder')
    assert (tmp_path/'table1.csv').read_text() == content and not (store/'runs').exists()

def test_rows_are_kept_without_another_store(tmp_path, monkeypatch):
    "The store that is given is the only one that is used."
    monkeypatch.setenv('MTSS_STORE', str(unwritable(tmp_path)))
    settings = little()
    monkeypatch.setattr('mtss.runs.resolve', lambda preset, **_: settings)
    rows = run_or_read(tmp_path/'rows/table1.csv', 'synthetic', 'smoke', store=tmp_path/'mine')
    assert len(rows)

@pytest.fixture
def full_disk(monkeypatch):
    "After n more files the disk is full: `full_disk(n)`; `full_disk(None)` frees it."
    left, sync = [None], os.fsync
    def fsync(file):
        if left[0] is not None:
            if not left[0]: raise OSError(errno.ENOSPC, 'No space left on device')
            left[0] -= 1
        sync(file)
    monkeypatch.setattr(os, 'fsync', fsync)
    return lambda n: left.__setitem__(0, n)

def test_types_in_one_text_are_not_taken_letter_by_letter(tmp_path):
    with pytest.raises(ValueError) as error: load_dataset(write_table(tmp_path/'photos'), types='category,pattern')
    refused(error, "types='category,pattern'", "give a list, such as ['category', 'pattern']")

def test_splits_that_were_dealt_are_not_blamed(tmp_path):
    "A column of prices leaves no photo to `val`; there is no column `split` to mend."
    path = write_table(tmp_path/'photos')
    table = pd.read_csv(path, dtype=str, keep_default_na=False).drop(columns='split')
    table.assign(price=[f'{n}.99' for n in range(len(table))]).to_csv(path, index=False)
    with pytest.raises(AnnotationError) as error: load_dataset(path)
    refused(error, "column 'price'", 'look like a name or a number', '-p types')
    assert "column 'split'" not in str(error.value)

def test_rows_that_find_no_room_leave_all_files_as_they_were(tmp_path, full_disk):
    "A table's CSV, its JSON and its samples belong together."
    def rows(n): return pd.DataFrame([dict(dict.fromkeys(IDENTITY, 'x'), replicate=n, model='a - b', k=1, value=.1, image_variance=.1, samples=np.zeros(8, np.float16))])
    keep_rows(tmp_path/'table.csv', rows(0), 'x', judged={})
    before = snapshot(tmp_path)
    for files in range(3):
        full_disk(files)
        with pytest.raises(StoreError) as error: keep_rows(tmp_path/'table.csv', rows(1), 'x', judged={})
        refused(error, 'the disk is full', 'free some space')
        assert snapshot(tmp_path) == before
    full_disk(None)
    assert len(keep_rows(tmp_path/'table.csv', rows(1), 'x', judged={})) == 3 and len(snapshot(tmp_path)) == len(before)

def test_a_folder_in_the_place_of_one_file_leaves_all_files_as_they_were(tmp_path):
    "The JSON would be new, and its CSV not."
    (tmp_path/'table.json').write_text('{}', encoding='utf-8')
    (tmp_path/'table.csv').mkdir()
    with pytest.raises(StoreError) as error: write_together({tmp_path/'table.json': '{"new": 1}', tmp_path/'table.csv': 'new'})
    refused(error, 'table.csv', 'directory', 'remove the folder of that name')
    assert (tmp_path/'table.json').read_text(encoding='utf-8') == '{}' and sorted(path.name for path in tmp_path.iterdir()) == ['table.csv', 'table.json']

def test_a_folder_that_may_not_be_written_is_not_to_be_removed(tmp_path, monkeypatch):
    def refuse(*args, **kwargs): raise PermissionError(errno.EACCES, 'Permission denied')
    for name in ('TemporaryFile', 'NamedTemporaryFile'): monkeypatch.setattr(f'tempfile.{name}', refuse)
    for write in (lambda: store_root(tmp_path), lambda: atomic_write(tmp_path/'note', 'x')):
        with pytest.raises(StoreError) as error: write()
        refused(error, str(tmp_path), 'Permission denied')
        assert 'remove' not in str(error.value)

@pytest.mark.parametrize('use', [train_teachers, plan, lambda data: train_student(data, {})], ids=['teachers', 'plan', 'student'])
def test_a_path_in_the_place_of_a_dataset_is_refused(use):
    with pytest.raises(TypeError) as error: use('my/annotations.csv')
    refused(error, 'my/annotations.csv', 'is not a dataset', "load_for('my/annotations.csv', preset)")

def test_samples_that_are_something_else_are_refused_before_training(tmp_path, store):
    (tmp_path/'table1_samples.parquet').write_bytes(b'cut')
    with pytest.raises(ValueError) as error: run_or_read(tmp_path/'table1.csv', 'synthetic', 'smoke')
    refused(error, 'table1_samples.parquet', 'not a file of samples', 'delete it')
    assert not (store/'runs').exists()

class Halves:
    "Whatever `fit` needs, in small: a line through noise."
    def __init__(self, outputs=1):
        torch.manual_seed(0)
        self.objective = nn.Module()
        self.objective.line = nn.Linear(4, outputs)
        self.objective.forward = lambda batch: (self.objective.line(batch).square().mean(), {})
    def fit(self, folder, steps=8, run='this'):
        folder.mkdir(exist_ok=True)
        log = fit(self.objective, lambda step: torch.randn(8, 4, generator=torch.Generator().manual_seed(step)), Schedule(steps, 8, .1, momentum=.9, evaluate_every=2, checkpoint_every=2),
                  folder, lambda _: 1 / (1 + self.objective.line.weight.square().sum().item()), run)
        return log, self.objective.line.weight.detach().clone()

def test_a_disk_that_fills_while_training(tmp_path, full_disk):
    full_disk(2)
    with pytest.raises(StoreError) as error: Halves().fit(tmp_path/'run')
    refused(error, 'checkpoint.safetensors', 'the disk is full', 'What was complete before is unchanged', 'free some space')
    assert load_tensors(tmp_path/'run/checkpoint.safetensors')[1]['step'] == 4
    assert not list((tmp_path/'run').glob('*.tmp')) and not list((tmp_path/'run').glob('.*.tmp'))
    full_disk(None)
    log, weights = Halves().fit(tmp_path/'run')
    assert log['resumed_at'].iloc[-1] == 4
    assert torch.equal(weights, Halves().fit(tmp_path/'undisturbed')[1])

def refuse_to_write(*args, **more): raise OSError(errno.ENOSPC, 'No space left on device')

@pytest.mark.parametrize('owner, function, name', [(pd.DataFrame, 'to_csv', 'log.csv'), (RecordWriter, 'write', 'tensorboard'), (RecordWriter, 'close', 'tensorboard')])
@pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning')
def test_a_disk_that_fills_while_a_log_is_written(owner, function, name, tmp_path, monkeypatch):
    "TensorBoard's is written by a thread of its own."
    with monkeypatch.context() as during:
        during.setattr(owner, function, refuse_to_write)
        with pytest.raises(StoreError) as error: Halves().fit(tmp_path/'run')
    refused(error, f'run/{name}', 'the disk is full', 'free some space')
    weights = Halves().fit(tmp_path/'run')[1]
    assert torch.equal(weights, Halves().fit(tmp_path/'undisturbed')[1])

@pytest.mark.parametrize('beside', [False, True], ids=['empty store', 'finished store'])
@pytest.mark.parametrize('files', [0, 1, 2, 3, 7, 20, 21, 22])
def test_a_disk_that_fills_at_any_file(files, beside, finished, tmp_path, full_disk):
    if beside: shutil.copytree(finished[0], tmp_path/'store')
    before = snapshot(tmp_path)
    full_disk(files)
    with pytest.raises(StoreError) as error: trained(tmp_path/'store', little(teacher=dict(steps=4, batch=8, evaluate_every=4, checkpoint_every=2), dim=4))
    refused(error, str(tmp_path/'store'), 'the disk is full', 'free some space')
    after = snapshot(tmp_path)
    assert not [path for path in after if path.suffix == '.tmp']
    assert {path: after.get(path) for path in before} == before

def test_a_disk_that_fills_leaves_an_array_as_it_was(tmp_path, full_disk):
    array = ChunkedArray(tmp_path/'array', (8, 2), 'uint8', chunk=4)
    array.write(0, np.ones((4, 2)))
    full_disk(0)
    with pytest.raises(StoreError): array.write(4, np.ones((4, 2)))
    assert array.missing() == [(4, 8)]
    full_disk(1)                                     # the rows still fit, the note of them does not
    with pytest.raises(StoreError): array.write(4, np.ones((4, 2)))
    assert array.missing() == [(4, 8)]

def test_an_array_that_has_lost_its_rows_is_not_read_as_zeros(tmp_path):
    array = ChunkedArray(tmp_path/'array', (8, 2), 'uint8', chunk=4)
    array.write(4, np.ones((4, 2)))
    (tmp_path/'array/array.bin').unlink()
    with pytest.raises(StoreError) as error: ChunkedArray(tmp_path/'array', (8, 2), 'uint8', chunk=4).missing()
    refused(error, 'array.bin', 'is shorter than chunks.json', 'delete the folder')

def test_a_file_is_whole_or_as_it_was(tmp_path, full_disk):
    atomic_write(tmp_path/'file', 'old')
    full_disk(0)
    with pytest.raises(StoreError): atomic_write(tmp_path/'file', 'new')
    assert snapshot(tmp_path) == {tmp_path/'file': b'old'}

SMALL_DISK = '''
import os, subprocess, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from conftest import little, trained
from mtss.store import StoreError
disk = Path(sys.argv[1])
def size(kilobytes, *options): subprocess.run(['mount', '-t', 'tmpfs', '-o', ','.join([*options, f'size={kilobytes}k']), 'none', disk], check=True)
size(64)
failures = []
for kilobytes in 1500, 4500, 9500, 50_000:
    try: _, _, tagger = trained(disk/'store')
    except StoreError as error:
        assert 'the disk is full' in str(error) and 'free some space' in str(error), error
        failures.append(error)
    size(kilobytes, 'remount')
_, _, tagger = trained(disk/'store')
assert len(failures) == 4, failures
tagger.save(sys.argv[3])
'''

def test_a_real_disk_that_fills_again_and_again(tmp_path):
    alone = ['unshare', '--map-root-user', '--mount']             # the small disk exists for one process only
    if not shutil.which('unshare') or subprocess.run([*alone, 'mount', '-t', 'tmpfs', 'none', tmp_path], capture_output=True).returncode:
        pytest.skip('this machine does not let a process mount a disk of its own')
    (tmp_path/'disk').mkdir()
    subprocess.run([*alone, sys.executable, '-c', SMALL_DISK, tmp_path/'disk', ROOT/'tests', tmp_path/'tagger.safetensors'], check=True)
    _, _, tagger = trained(tmp_path/'store')
    found = Tagger.load(tmp_path/'tagger.safetensors')
    assert found.key == tagger.key and all(torch.equal(a, b) for a, b in zip(found.student.state_dict().values(), tagger.student.state_dict().values()))

# --- checkpoints and models

def test_a_checkpoint_that_is_cut_short(tmp_path):
    Halves().fit(tmp_path/'run')
    checkpoint = tmp_path/'run/checkpoint.safetensors'
    whole = checkpoint.read_bytes()
    for length in 0, 5, 100, len(whole) // 2, len(whole) - 1:
        checkpoint.write_bytes(whole[:length])
        before = snapshot(tmp_path)
        with pytest.raises(CheckpointError) as error: Halves().fit(tmp_path/'run', steps=12)
        refused(error, str(checkpoint), 'cut short', 'Delete it to start that run anew')
        assert snapshot(tmp_path) == before

@pytest.mark.parametrize('outputs, run, cause', [(1, 'that', "belongs to run this, not that"), (2, 'this', 'does not fit the network')], ids=['run', 'schema'])
def test_a_checkpoint_of_something_else(outputs, run, cause, tmp_path):
    Halves().fit(tmp_path/'run')
    before = snapshot(tmp_path)
    with pytest.raises(CheckpointError) as error: Halves(outputs).fit(tmp_path/'run', run=run)
    refused(error, str(tmp_path/'run/checkpoint.safetensors'), cause, 'Delete it to start this run anew')
    assert snapshot(tmp_path) == before

@pytest.mark.parametrize('rows, length', [(0, 0), (0, 9), (1, 0), (1, 9)], ids=['empty', 'half a header', 'header only', 'half a row'])
def test_a_log_that_was_cut_short_does_not_stop_a_run(rows, length, tmp_path, full_disk):
    "As it may be after a kill or on a full disk; what is known of the run stands in its checkpoint."
    data = load_for('synthetic', little(), store=tmp_path/'store')
    data.pixels
    full_disk(2)                                     # for the configuration and the first checkpoint
    with pytest.raises(StoreError): train_teachers(data, 1, little(), store=tmp_path/'store')
    (log,) = tmp_path.glob('store/runs/*/log.csv')
    lines = log.read_text().splitlines(keepends=True)
    log.write_text(''.join(lines[:rows]) + lines[rows][:length])
    full_disk(None)
    teachers, wanted = (train_teachers(data, 1, little(), store=tmp_path/folder) for folder in ('store', 'undisturbed'))
    assert pd.read_csv(log)['step'].tolist() == [4] and pd.read_csv(log)['resumed_at'].tolist() == [2]
    for name in teachers:
        assert [teachers[name].record[part] for part in ('best_score', 'best_step')] == [wanted[name].record[part] for part in ('best_score', 'best_step')]
        assert all(torch.equal(a, b) for a, b in zip(teachers[name].state_dict().values(), wanted[name].state_dict().values()))

@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    "A store in which everything is trained; with data, teachers and student."
    store = tmp_path_factory.mktemp('finished')/'store'
    return store, *trained(store)

@pytest.mark.parametrize('kind', ['cut short', 'of another type', 'of another seed', 'of the student'])
def test_a_model_in_the_store_that_is_something_else(kind, finished, tmp_path):
    source, data, teachers, tagger = finished
    store = shutil.copytree(source, tmp_path/'store')
    model = lambda key: store/'runs'/key/'model.safetensors'
    wrong = {'of another type': lambda: model(teachers['pattern'].key), 'of the student': lambda: model(tagger.key),
             'of another seed': lambda: model(train_teachers(data, 1, little(), seed=7, store=store)['category'].key)}
    own = model(teachers['category'].key)
    own.write_bytes(wrong[kind]().read_bytes() if kind in wrong else own.read_bytes()[:-9])
    before = own.read_bytes()
    with pytest.raises(CheckpointError) as error: train_teachers(data, 1, little(), store=store)
    refused(error, str(own), f"is not the model of run {teachers['category'].key}" if kind in wrong else 'cut short', 'Delete it')
    assert own.read_bytes() == before

# --- the tagger

@pytest.fixture(scope='module')
def tagger(finished): return finished[-1]

BAD_IMAGES = {
    'missing': ('nowhere.jpg', 'nowhere.jpg', 'there is no such file'),
    'folder': ('.', 'is a folder', "glob('*.jpg')"),
    'several, one missing': ([photo(0), 'nowhere.jpg'], 'nowhere.jpg', 'there is no such file'),
    'nothing': (None, 'not NoneType'),
    'bytes': (JPEG, 'a path, a PIL image, an array or a tensor', 'not bytes'),
    'list in a list': ([[photo(0)]], 'not list'),
    'grey array': (photo(0)[..., 0], 'uint8, H × W × 3', '(16, 16)'),
    'float array': (photo(0) / 255, 'uint8, H × W × 3', 'float64'),
    'array without pixels': (np.zeros((0, 4, 3), np.uint8), 'no pixel'),
    'image without pixels': (Image.new('RGB', (0, 4)), 'no pixel'),
    'tensor without pixels': (torch.zeros(3, 0, 4), '3 × H × W'),
    'tensor of 0 to 255': (torch.full((3, 4, 4), 200.), '[0, 1]', '200'),
    'tensor of no number': (torch.full((3, 4, 4), float('nan')), '[0, 1]', 'nan'),
    'channels last': (torch.rand(4, 4, 3), '3 × H × W', '(4, 4, 3)'),
}

@pytest.mark.parametrize('name', BAD_IMAGES)
def test_predict_refuses_what_is_no_image(name, tagger):
    source, *parts = BAD_IMAGES[name]
    with pytest.raises(ImageError) as error: tagger.predict(source)
    refused(error, *parts)

@pytest.mark.parametrize('boxes', [[(0, 0, 4, 4)] * 2, [(0, 0, 4)], []], ids=['too many', 'of three numbers', 'none'])
def test_predict_wants_a_box_for_each_image(boxes, tagger):
    with pytest.raises(ValueError) as error: tagger.predict([photo(0)], boxes=boxes)
    refused(error, f'{len(boxes)} boxes for 1 images', 'x0 y0 x1 y1')

def test_predict_refuses_a_box_without_a_garment(tagger):
    with pytest.raises(ImageError) as error: tagger.predict(photo(0), boxes=(90, 90, 99, 99))
    refused(error, 'lies outside the image of 16 × 16')
    with pytest.raises(ImageError) as error: tagger.predict(torch.rand(3, 4, 4), boxes=(0, 0, 2, 2))
    refused(error, 'crop it to the box')

@pytest.mark.parametrize('name', sorted(BAD_FILES.keys() - {'folder'}))       # that is among `BAD_IMAGES`
def test_predict_names_a_file_that_cannot_be_read(name, tagger, tmp_path):
    content, *parts = BAD_FILES[name]
    (tmp_path/'photo.jpg').touch()
    spoil(tmp_path/'photo.jpg', content)
    with pytest.raises(ImageError) as error: tagger.predict(tmp_path/'photo.jpg')
    refused(error, str(tmp_path/'photo.jpg'), *parts)

def test_predict_leaves_a_picture_as_it_was(tagger, tmp_path):
    Image.fromarray(colours(256)).save(tmp_path/'photo.jpg')
    picture = Image.open(tmp_path/'photo.jpg')
    tagger.predict(picture)
    assert picture.size == (256, 256) and np.array_equal(picture, Image.open(tmp_path/'photo.jpg'))

@pytest.fixture
def every_warning():
    "PyTorch warns each time, not only the first."
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(False)

@pytest.mark.filterwarnings('error')
def test_predict_takes_every_kind_of_image_without_a_warning(tagger, tmp_path, every_warning):
    Image.fromarray(photo(0)).save(tmp_path/'photo.png')
    pixels = torch.from_numpy(photo(0)).permute(2, 0, 1) / 255
    wanted = tagger.predict(photo(0))
    for source in tmp_path/'photo.png', str(tmp_path/'photo.png'), Image.open(tmp_path/'photo.png'), torch.from_numpy(photo(0)), pixels, pixels.double():
        assert tagger.predict(source) == wanted
        assert tagger.predict([source, source]) == [wanted, wanted]
    assert tagger.predict([]) == []
    assert tagger.predict(photo(0), top=0) == {name: [] for name in tagger.schema.names}

def taken_apart(path):
    "What is in a tagger's file."
    tensors, record = load_tensors(path)
    return tensors, record, json.loads(record['schema'])

def test_load_refuses_a_file_that_is_no_tagger(finished, tagger, tmp_path):
    store, _, teachers, _ = finished
    path = tmp_path/'tagger.safetensors'
    tagger.save(path)
    whole, (tensors, record, schema) = path.read_bytes(), taken_apart(path)
    first = tagger.schema.names[0]
    def rewritten(tensors=tensors, **changes): save_tensors(path, tensors, **record | changes)
    wrong = {
        'empty': (lambda: path.write_bytes(b''), 'header too small'),
        'cut short': (lambda: path.write_bytes(whole[:-9]), 'file not fully covered'), 'cut in the header': (lambda: path.write_bytes(whole[:100]), 'invalid header length'),
        'a photo': (lambda: path.write_bytes(JPEG), 'header too large'), 'tensors of somebody else': (lambda: save_file(dict(a=torch.ones(2)), path), "it has no 'mtss'"),
        'a record that is none': (lambda: save_file(dict(a=torch.ones(2)), path, metadata=dict(mtss='[1]')), 'list indices must be integers'),
        'a teacher': (lambda: path.write_bytes((store/'runs'/teachers[first].key/'model.safetensors').read_bytes()), "it has no 'kind'"),
        'another type': (lambda: rewritten(schema=json.dumps(schema | dict(fit=['loose', 'slim']))), 'its dictionaries do not fit its schema'),
        'no schema': (lambda: rewritten(schema='{}'), 'not a schema'),
        'a class less': (lambda: rewritten(schema=json.dumps(schema | {first: schema[first][:-1]})), 'its dictionaries do not fit its schema'),
        'another backbone': (lambda: rewritten(backbone='resnet18'), 'size mismatch for branches'), 'an unknown backbone': (lambda: rewritten(backbone='vgg'), "unknown backbone 'vgg'"),
        'an image size that is none': (lambda: rewritten(image_size=10**6), 'image_size=1000000'), 'an image size as text': (lambda: rewritten(image_size='32'), "image_size='32'"),
        'a view larger than the image': (lambda: rewritten(view_size=4000), 'view_size=4000'), 'a view that is none': (lambda: rewritten(view_size=None), 'view_size=None'),
        'no temperatures': (lambda: rewritten(temperatures={}), 'its temperatures'), 'a temperature that is none': (lambda: rewritten(temperatures=dict.fromkeys(schema, -1.)), 'its temperatures'),
        'no offsets': (lambda: rewritten({name: tensor for name, tensor in tensors.items() if not name.startswith('offsets/')}), 'its offsets'),
        'offsets that are none': (lambda: rewritten({name: tensor * torch.nan if name.startswith('offsets/') else tensor for name, tensor in tensors.items()}), 'its offsets'),
        'an offset too few': (lambda: rewritten({name: tensor[1:] if name.startswith('offsets/') else tensor for name, tensor in tensors.items()}), 'its offsets'),
        'half the weights': (lambda: rewritten({name: tensor for name, tensor in tensors.items() if 'branches.0' not in name}), 'Missing key(s) in state_dict: "branches.0'),
    }
    for name, (spoil_it, cause) in wrong.items():
        path.write_bytes(whole)
        spoil_it()
        before = snapshot(tmp_path)
        with pytest.raises(CheckpointError) as error: Tagger.load(path)
        refused(error, str(path), cause, 'give the path of a file that Tagger.save of this version wrote')
        assert snapshot(tmp_path) == before

def test_a_tagger_that_is_not_there(tmp_path):
    with pytest.raises(CheckpointError) as error: Tagger.load(tmp_path/'tagger.safetensors')
    refused(error, 'there is no file', str(tmp_path/'tagger.safetensors'), 'give the path')

@pytest.mark.parametrize('write', ['save', 'export_onnx'])
def test_a_tagger_that_cannot_be_written(write, tagger, tmp_path):
    with pytest.raises(StoreError) as error: getattr(tagger, write)(unwritable(tmp_path))
    refused(error, str(tmp_path/'file/store'), 'cannot write', 'Not a directory', 'give another path')
    assert (tmp_path/'file').read_text() == 'kept'

def test_of_many_doubts_the_first_are_shown(tmp_path):
    "A column whose labels are joined by commas has as many classes as combinations."
    path = write_table(tmp_path/'shop', 300)
    table = read_table(path)
    colours = list('abcdefgh')
    pairs = [f'{one}, {other}' for n, one in enumerate(colours) for other in colours[n + 1:]]
    table.assign(tags=(colours * 12 + pairs * 8)[:300]).to_csv(path, index=False)
    found = check_dataset(path)['check'].eq('class names')
    assert found.sum() == 21 and '… and 8 more' in check_dataset(path)['found'][found].iloc[-1]

def test_a_problem_names_its_row_although_images_are_left_out(tmp_path):
    "Rows are counted as the spreadsheet has them, unreadable images among them."
    rows = ['image,split,category'] + [f'{n}.jpg,{split},{kind}' for n, (split, kind) in enumerate([('train', 'dress'), ('train', 'skirt'), ('train', 'shirt'), ('val', 'dress'), ('test', 'skirt'), ('test', 'shirt')])]
    for n in range(6): Image.fromarray(photo(n)).save(tmp_path/f'{n}.jpg')
    (tmp_path/'2.jpg').write_bytes(b'')                  # the only shirt of train
    (tmp_path/'annotations.csv').write_text('\n'.join(rows))
    with pytest.raises(AnnotationError) as error: load_dataset(tmp_path/'annotations.csv', max_unreadable=.5)
    refused(error, 'cannot be read', '2.jpg', "row 7, column 'category': class 'shirt'")

# --- parquet

def test_a_shuffled_parquet_table_loses_the_photo_that_is_broken(tmp_path, store, capfd):
    "Rows are counted, whatever index pandas has stored; whole numbers with gaps stay whole."
    table = read_table(write_table(tmp_path/'shop', 40)).assign(stock=[7. if n % 3 else np.nan for n in range(40)]).sample(frac=1, random_state=1)
    table.to_parquet(tmp_path/'shop/table.parquet')
    (tmp_path/'shop/images/3.png').write_bytes(b'no image')
    data = load_dataset(tmp_path/'shop/table.parquet', image_size=16, types=['category', 'pattern'])
    assert list(data.unreadable) == ['images/3.png'] and 'images/3.png' in capfd.readouterr().err
    (row,) = np.flatnonzero(data.table['split'] == 'unreadable')
    assert data.table['image'][row] == 'images/3.png' and not data.pixels[row].any() and data.pixels.any((1, 2, 3)).sum() == 39
    assert set(read_table(tmp_path/'shop/table.parquet')['stock']) == {'7', ''}

def test_a_table_without_splits_does_not_stop_at_a_class_whose_only_training_photo_is_broken(tmp_path, store, capfd):
    "There is no split column that its owner could edit: the class is left out, and that is said."
    table = read_table(write_table(tmp_path/'shop', 120)).drop(columns='split')
    dealt = with_splits(table)
    train, other = (dealt.index[dealt['split'] == split][0] for split in ('train', 'test'))
    table.loc[[train, other], 'pattern'] = 'rare'
    table.to_csv(tmp_path/'shop/rare.csv', index=False)
    (tmp_path/'shop'/table['image'][train]).write_bytes(b'no image')
    data = load_dataset(tmp_path/'shop/rare.csv', image_size=16)
    assert 'rare' not in data.schema['pattern'].classes and 'rare' in capfd.readouterr().err

@pytest.mark.parametrize('text, part', [('image,kind,kind\na.png,x,y\n', "column 'kind' appears twice"), ('image,kind\n', 'there is no row below the header')])
def test_what_is_wrong_with_a_header_is_said_without_splits_too(text, part, tmp_path, store):
    (tmp_path/'table.csv').write_text(text)
    with pytest.raises(AnnotationError) as error: load_dataset(tmp_path/'table.csv')
    refused(error, 'table.csv', part)

# --- boxes from a file

def test_boxes_from_a_file(tmp_path, store, capfd):
    "Those that are there are used; what cannot be used is said, and how to make it."
    table = write_table(tmp_path/'shop', 30)
    boxes, given = tmp_path/'boxes.parquet', read_table(table)
    def load(): return load_dataset(table, image_size=16, boxes=boxes)
    for content in None, b'no parquet':
        if content: boxes.write_bytes(content)
        with pytest.raises(AnnotationError) as error: load()
        refused(error, 'boxes.parquet', 'no file of boxes can be read there', 'find_boxes')
    given[['image']].assign(x0=0.).to_parquet(boxes)
    with pytest.raises(AnnotationError) as error: load()
    refused(error, 'boxes.parquet', 'find_boxes')
    found = pd.DataFrame(dict(image=given['image'][1:], x0=2., y0=2., x1=9., y1=8.))
    found.loc[3, ['x0', 'y0', 'x1', 'y1']] = np.nan                          # the detector found nothing
    found.to_parquet(boxes)
    whole, cropped = load_dataset(table, image_size=16), load()
    assert '1 of 30 images have no entry and are used whole, first images/0.png' in capfd.readouterr().err
    same = (whole.pixels == cropped.pixels).all((1, 2, 3))
    assert same[[0, 3]].all() and same.sum() == 2 and whole.key != cropped.key
    assert (cropped.pixels[5] == read_image(tmp_path/'shop'/given['image'][5], 16, (2, 2, 9, 8))).all()
    given.assign(x0='', y0='', x1='', y1='').to_csv(table, index=False)
    with pytest.raises(AnnotationError) as error: load()
    refused(error, 'boxes of its own', 'leave out boxes.parquet')
