"""Boxes in the XML files of Pascal VOC, which ImageNet's annotators used too.

Source: M. Everingham et al., The Pascal Visual Object Classes (VOC) Challenge, IJCV 88, 2010.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree  # reads no other file; expat itself stops entities that expand without end

from pipeline.core.errors import UserError
from pipeline.data.dataset import Box
from pipeline.data.ground_truth import clip_box
from pipeline.data.image_files import read_file


def read_boxes(file: Path, size: tuple[int, int], first: int) -> list[Box]:
    """Read the boxes of one picture.

    Args:
        file: the XML file.
        size: width and height of its picture in pixels.
        first: what ``xmin`` and ``ymin`` are at the picture's left and top edge: 1 where the file names the first and
            the last pixel of a box, counted from 1, as in VOC; 0 where it names the edges, as for the validation images
            of ImageNet.

    Returns:
        The boxes, cut to the picture. ``xmax`` and ``ymax`` are the right and bottom edge either way.

    Raises:
        UserError: the file is missing or not an annotation, was made for a picture of another size, or has an object
            without a box, or with one beside the picture.
    """
    try:
        annotation = ElementTree.fromstring(read_file(file))
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # the latter two of an unknown encoding
        raise UserError(file, f"not valid XML ({' '.join(str(error).split())})") from None
    if annotation.tag != "annotation":
        raise UserError(file, f"found <{annotation.tag}>", expected="<annotation>")
    said = annotation.find("size")
    if said is not None and (found := tuple(_number(file, said, side) for side in ("width", "height"))) != size:
        raise UserError(
            f"{file}: size", f"found {found[0]:g} by {found[1]:g} pixels", fix=f"its picture has {size[0]} by {size[1]}"
        )
    objects = enumerate(annotation.findall("object"), 1)
    return [_read_box(file, size, first, number, element=element) for number, element in objects]


def _read_box(file: Path, size: tuple[int, int], first: int, number: int, *, element: ElementTree.Element) -> Box:
    box = element.find("bndbox")
    if box is None:
        raise UserError(f"{file}: object {number}", "found no <bndbox>", expected="one per object")
    left, top, right, bottom = (_number(file, box, edge) for edge in ("xmin", "ymin", "xmax", "ymax"))
    return clip_box(Box(left - first, top - first, right, bottom), size, f"{file}: object {number}")


def _number(file: Path, element: ElementTree.Element, name: str) -> float:
    text = element.findtext(name)
    try:
        return float(text or "")
    except ValueError:
        raise UserError(f"{file}: {element.tag}: {name}", f"found {text!r}", expected="a number of pixels") from None
