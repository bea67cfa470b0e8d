class BaseModel:
    INTERLEAVE = False
    allowed_types = ("text", "image", "video")

    def __init__(self):
        self.dump_image_func = None

    def use_custom_prompt(self, dataset):
        return False

    def generate(self, message, dataset=None):
        assert all(own["type"] in self.allowed_types and "value" in own for own in message)
        return self.generate_inner(message, dataset)
