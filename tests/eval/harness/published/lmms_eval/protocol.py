class ChatMessages:
    def __init__(self, messages):
        self.messages = messages

    def to_hf_messages(self):
        def content(own):
            if own["type"] == "text":
                return own
            times = {f"video_{key[:-5]}": own[key] for key in ("start_time", "end_time") if own.get(key) is not None}
            return {"type": own["type"], own["type"]: own["url"], **times}

        return [{"role": own["role"], "content": [content(each) for each in own["content"]]} for own in self.messages]
