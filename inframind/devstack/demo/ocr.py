"""ocr-v1: the three PP-OCR networks that RapidOCR's wheel ships."""

from inframind.devstack.demo.wheels import Wheels

NETWORKS = {
    "detection.onnx": "ch_PP-OCRv4_det_infer.onnx",
    "direction.onnx": "ch_ppocr_mobile_v2.0_cls_infer.onnx",
    "recognition.onnx": "ch_PP-OCRv4_rec_infer.onnx",
}


def ocr(wheels: Wheels) -> dict[str, bytes]:
    """Return the files of the package that come from RapidOCR's wheel."""
    folder = "rapidocr_onnxruntime/models"
    return {
        name: wheels.read("rapidocr_onnxruntime", f"{folder}/{member}")
        for name, member in NETWORKS.items()
    }
