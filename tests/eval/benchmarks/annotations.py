"""A few rows in the schema of each benchmark, made up, and what is to be read from them."""

ROWS = {
    "video_mme": [
        {
            "video_id": "001", "duration": "short", "domain": "Knowledge", "sub_category": "Astronomy",
            "url": "https://example.org/a", "videoID": "aB3", "question_id": "001-1", "task_type": "Counting Problem",
            "question": "How many moons are drawn?", "options": ["A. One.", "B. Two.", "C. Four.", "D. None."],
            "answer": "C",
        },
        {
            "video_id": "002", "duration": "long", "domain": "Knowledge", "sub_category": "Law",
            "url": "https://example.org/b", "videoID": "c-4", "question_id": "002-1", "task_type": "OCR Problems",
            "question": "Which word is on the door?", "options": ["A. In.", "B. Out.", "C. Up.", "D. Down."],
            "answer": "A",
        },
    ],
    "mlvu": [
        {
            "video": "order_7.mp4", "duration": 480.5, "question": "What is cut first?",
            "candidates": ["bread", "an apple", "a rope", "paper"], "answer": "a rope", "question_type": "order",
        },
        {
            "video": "ego_1.mp4", "duration": 300, "question": "What did I drop?", "question_id": "ego_12",
            "candidates": ["a key", "a cup", "a pen", "a coin", "a book", "a hat"], "question_type": "ego",
        },
    ],
    "lvbench": [
        {
            "key": "Xy_9", "type": "sport", "video_info": {"duration_minutes": 61.0},
            "qa": [
                {
                    "uid": 41, "question": "Who scores at 12:00?\n(A) Red 7\n(B) Red 9\n(C) Blue 7\n(D) Nobody (yet)",
                    "answer": "D", "question_type": ["entity recognition", "reasoning"],
                    "time_reference": "11:50-12:10",
                },
                {
                    "uid": 42, "question": "How does it end?\n(A) 1:0\n(B) 2:0\n(C) 2:1\n(D) 0:0",
                    "answer": "B", "question_type": ["summarization"], "time_reference": "00:00-60:00",
                },
            ],
        }
    ],
    "longvideobench": [
        {
            "video_id": "q1", "question": "When the bell rings, who leaves?",
            "question_wo_referring_query": "Who leaves?",
            "candidates": ["A cat", "A dog", "A man", "A child", "Nobody"], "correct_choice": 4, "position": [10, 90],
            "topic_category": "NP-News-Programs", "question_category": "TOS", "level": "L2-Relation", "id": "q1_0",
            "video_path": "q1.mp4", "subtitle_path": "q1_en.json", "duration_group": 600,
            "starting_timestamp_for_subtitles": 0, "duration": 190.2, "view_count": 3,
        }
    ],
    "egoschema": [
        {
            "q_uid": "u-1", "google_drive_id": "d", "question": "What is C doing overall?", "option 0": "C paints.",
            "option 1": "C cooks.", "option 2": "C reads.", "option 3": "C sews a coat.", "option 4": "C sleeps.",
        },
        {
            "q_uid": "u-2", "google_drive_id": "e", "question": "Why does C stop?", "option 0": "Rain.",
            "option 1": "Noise.", "option 2": "Hunger.", "option 3": "A call.", "option 4": "A fall.",
        },
    ],
}  # fmt: skip
