"""Real documents of every kind, made as the tests need them."""

from __future__ import annotations

from io import BytesIO

import docx
from pypdf import PdfReader, PdfWriter

TEA = "Tea leaves are withered, rolled and dried. Green tea is heated early, which keeps it from oxidising."
COFFEE = "Coffee beans are roasted until they crack. A dark roast tastes bitter and hides the origin of the bean."
BREAD = "Sourdough bread rises with wild yeast. The baker feeds the starter with flour and water every day."


def pdf(text: str, title: str = "") -> bytes:
    """A PDF of one page with one line of text, written by hand."""
    content = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources 6 0 R >>",
        b"<< /Length %d >>\nstream\n%b\nendstream" % (len(content), content),
        f"<< /Title ({title}) >>".encode(),
        b"<< /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >>",
    ]
    data, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(data))
        data += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    trailer = b"trailer\n<< /Size 7 /Root 1 0 R /Info 5 0 R >>\nstartxref\n%d\n%%%%EOF\n" % len(data)
    return data + b"xref\n0 7\n0000000000 65535 f \n" + table + trailer


def encrypted_pdf(text: str, password: str) -> bytes:
    """A PDF that AES-256 protects; with an empty password it opens for everyone."""
    writer = PdfWriter(clone_from=PdfReader(BytesIO(pdf(text))))
    writer.encrypt(password, f"{password} of the owner", algorithm="AES-256")
    file = BytesIO()
    writer.write(file)
    return file.getvalue()


def word_document(title: str, paragraphs: list[str], table: list[list[str]]) -> bytes:
    """A Word document with a heading, paragraphs and a table after them."""
    document = docx.Document()
    document.core_properties.title = title
    document.add_heading(title)
    for paragraph in paragraphs:
        document.add_paragraph(paragraph)
    cells = document.add_table(len(table), len(table[0]))
    for row, values in zip(cells.rows, table, strict=True):
        for cell, value in zip(row.cells, values, strict=True):
            cell.text = value
    file = BytesIO()
    document.save(file)
    return file.getvalue()
