"""What the latency benchmark asks: things people say to a voice on the telephone, 4 to 14 words each."""

QUESTIONS = (
    "Who am I talking to right now?",
    "What can you help me with today?",
    "Can you tell me something about the ocean?",
    "What is the capital of France?",
    "How do I make a good cup of coffee?",
    "What should I cook for dinner tonight?",
    "Why is the sky blue during the day?",
    "Could you recommend a book for a long train ride?",
    "How many days are there in a year?",
    "What is a good way to fall asleep faster?",
    "Do you think it is better to walk or to take the bus?",
    "Could you please tell me your name again?",
)
