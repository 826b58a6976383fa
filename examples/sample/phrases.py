"""Phrases of the machine-made junk: topics, slots, sentence patterns, policies. Written for this project."""

TOPICS = (
    "mattress,car insurance,garden furniture,weight loss tea,online casino,running shoes,kitchen knives,"
    "phone case,home loan,teeth whitening,crypto wallet,vacuum cleaner,hair serum,web hosting,yoga pants,"
    "protein powder,air fryer,credit repair,office chair,travel pillow,smart watch,essay service,solar panel,"
    "wedding dress,coffee maker,laptop bag,plumbing service,keto diet,gaming chair,beard oil,roof repair,"
    "wireless earbuds,pest control,skin cream,water filter"
).split(",")

SLOTS: dict[str, list[str]] = {
    "adj": (
        "best,cheap,top,amazing,affordable,premium,discount,ultimate,trusted,exclusive,proven,incredible,popular,hot,"
        "trending,certified,unbeatable,stunning,leading,professional"
    ).split(","),
    "noun": (
        "budget,lifestyle,home,family,business,needs,journey,routine,experience,solution,choice,deal,offer,brand,"
        "style,comfort,wellness,success,goals,results"
    ).split(","),
    "verb": "boost,transform,upgrade,unlock,maximise,elevate,discover,enjoy,improve,supercharge".split(","),
    "who": (
        "shoppers,experts,customers,busy parents,professionals,beginners,industry insiders,savvy buyers,homeowners,"
        "celebrities"
    ).split(","),
    "when": "today,right now,this season,in no time,before it is too late,for years to come,every single day".split(
        ","
    ),
    "place": "online,in your area,near you,at our store,on our website,from the comfort of your couch".split(","),
    "number": "3,5,7,10,12,15,21,27,50,99,100".split(","),
}

SENTENCES = [
    "When it comes to <topic>, choosing the <adj> <noun> can make all the difference.",
    "If you are looking for <adj> <topic>, you have come to the right place.",
    "Our <adj> <topic> will <verb> your <noun> <when>.",
    "Many <who> agree that <adj> <topic> is the key to a better <noun>.",
    "It is no secret that <who> love <adj> <topic>, and so will you.",
    "You can buy <adj> <topic> <place> and <verb> your <noun> <when>.",
    "There are <number> things that <who> should know about <topic> before they <verb> their <noun>.",
    "In this article we will look at the <adj> <topic> that money can buy.",
    "Do not miss this <adj> offer on <topic>, because stock is limited.",
    "With so many options on the market, finding <adj> <topic> is not an easy task for <who>.",
    "A <adj> <topic> is an investment in your <noun> and in your <noun>.",
    "Whether you are new to <topic> or one of the <who>, we have the <adj> <noun> for you.",
    "Click here to compare <adj> <topic> prices <place> and save up to <number> percent.",
    "Thanks to our <adj> team you will <verb> your <noun> with <topic> <when>.",
    "The <adj> <topic> reviews <place> all say the same thing about <noun>.",
    "Last but not least, <adj> <topic> helps you to <verb> your <noun> and your <noun>.",
    "At the end of the day, <topic> is all about <noun>, and that is why <who> trust us.",
    "Contact us <when> for a free quote on <adj> <topic> <place>.",
    "What makes our <topic> so <adj> is the way it will <verb> your <noun>.",
    "As we all know, <adj> <noun> starts with <adj> <topic>, so order yours <when>.",
    "Studies of <who> have shown that <topic> can <verb> your <noun> by <number> percent.",
    "Our customers rate this <topic> as the <adj> <noun> they ever had.",
    "Keep reading to find out how <topic> can <verb> your <noun> <when>.",
    "So what are you waiting for, get your <adj> <topic> <when>.",
    "Remember that not every <topic> is right for your <noun>, so ask the <who> <place>.",
    "We ship <adj> <topic> to all <who> within <number> days, no questions asked.",
    "Nobody wants to spend hours comparing <topic>, which is exactly why <who> come to us first.",
    "From <adj> to <adj>, our range of <topic> has something for every <noun>.",
    "Let us be honest: a <adj> <noun> does not happen by itself.",
    "That is where <adj> <topic> comes in and helps to <verb> everything you care about.",
    "Before you buy, ask yourself what kind of <noun> you really want.",
    "Price is not everything, but <adj> value never goes out of fashion with <who>.",
    "Thousands of <who> have already made the switch, and they are not looking back.",
    "Some brands promise a lot about <topic> and deliver little, while ours keeps every word.",
    "Quality, <noun> and <noun> are the three pillars of any <adj> purchase.",
    "Read our guide below if you would like to <verb> your <noun> without breaking the bank.",
    "Did you know that more than <number> percent of <who> get their <topic> wrong?",
    "Fortunately there is a <adj> way to avoid all those mistakes <when>.",
    "First of all, think about your <noun>, because everything else follows from it.",
    "Secondly, check that the <topic> you like is really <adj> and not just <adj> on paper.",
    "Finally, never pay full price, since <adj> coupons are easy to find <place>.",
    "Our editors tested <number> kinds of <topic> so that you do not have to.",
    "The results were <adj>, to say the least, and some of them surprised even <who>.",
    "A word of warning to <who>: cheap imitations can harm your <noun> in the long run.",
    "On the other hand, a genuine <adj> model will <verb> more than you ever imagined.",
    "It goes without saying that delivery is free for all <who> who order <when>.",
    "Pair it with our <adj> accessories and watch how quickly you <verb> your <noun>.",
    "For best results, use your new <topic> daily and share the outcome with other <who>.",
    "There has never been a better moment to treat your <noun> to something <adj>.",
    "Everyone deserves <adj> things in life, and <topic> is certainly one of them.",
    "Feel free to leave a comment below and tell other <who> about your own <noun>.",
    "Sign up for our newsletter to receive <adj> tips on <topic> straight to your inbox.",
    "Terms apply, see the shop for details on this <adj> promotion for <who>.",
    "In today's fast-paced world, <who> need solutions that simply work.",
    "Luckily for you, we have done the research and picked the most <adj> ones.",
    "Imagine waking up every morning knowing that your <noun> is in good hands.",
    "With a little help from <adj> <topic>, this dream can come true <when>.",
    "Not sure which size or colour to pick, then talk to one of our <who> <place>.",
    "Another <adj> benefit that is rarely mentioned is the effect on your <noun>.",
    "Compared with last year, demand for <topic> among <who> has gone through the roof.",
    "This is hardly surprising, given how <adj> and <adj> the new models are.",
    "Long story short, invest in your <noun> first and enjoy the <noun> later.",
    "We hope this overview was useful and that it will <verb> your next decision.",
    "Bookmark this page, because we update our <topic> picks for <who> all the time.",
    "To sum up, the <adj> option is usually also the <adj> one for your <noun>.",
    "Whatever you do, do not settle for anything less than <adj> when your <noun> is at stake.",
]

CLICKBAIT = [
    "You will not believe what these <number> <who> did with their <topic>.",
    "Number <number> on this list will shock you, and <who> are furious about it.",
    "This one weird <topic> trick can <verb> your <noun> <when>.",
    "Doctors, <who> and <who> are talking about it <when>.",
    "We asked <number> <who> about <topic>, and their answers are <adj>.",
    "Scroll to the end to see the most <adj> <topic> of all time.",
]

LIST_ITEMS = [
    "You have seen nothing like this <adj> <topic> before, and <who> cannot get enough of it.",
    "Just look at it and tell me that your <noun> does not need a <adj> <topic>.",
    "Once you try this, your <noun> will never be the same again.",
    "We were blown away by how <adj> it is, and so were <number> <who>.",
    "It costs less than you think, and it will <verb> your <noun> <when>.",
    "Only <number> of these are left <place>, so hurry up.",
    "Share this with <who> who need to <verb> their <noun> <when>.",
    "Honestly, who knew that <topic> could be this <adj>?",
    "Your <noun> deserves it, and your friends will ask where you got it <place>.",
    "Some say it is <adj>, others say it is <adj>, but all <who> want one.",
    "Wait until you see what happens to your <noun> <when>!",
    "This is the <adj> <topic> hack that <who> have kept to themselves.",
    "Nobody expected a plain <topic> to end up on a list like this, yet here we are.",
    "Blink and you will miss the <adj> detail that makes this one special.",
    "My neighbour bought one, and now the whole street is talking about <noun>.",
    "If I had to keep a single <topic> for the rest of my life, it would be this.",
    "Rumour has it that <who> hide theirs in the garage.",
    "There are cheaper ways to <verb> a <noun>, but none that looks so <adj>.",
    "Warning: after this one you may never go back to your old <noun>.",
    "We laughed, we cried, and then we ordered <number> more of them.",
    "Even the most <adj> critics had to admit that it does what it says.",
    "Think of it as a holiday for your <noun>, only much more <adj>.",
    "Believe it or not, this was invented by <who> in a kitchen.",
    "Rated <number> out of 10 by people who do not even like <topic>.",
    "Say goodbye to boring afternoons and hello to a more <adj> <noun>.",
    "The secret lies in the middle, as <who> found out by accident.",
    "Add this to your wish list, thank us later, and <verb> on.",
    "Apparently the internet cannot decide whether this is <adj> or simply <adj>.",
    "It may look odd at first, yet it fits into every <noun>.",
    "Grab yours while the offer lasts, since <who> are buying them by the dozen.",
    "One reader wrote that it changed the way she thinks about <noun>.",
    "A <adj> gift for <who> in your life, especially those who have everything.",
    "Trust us on this one, we have tried <number> others that were not half as good.",
    "Pictures do not do it justice, so go and see the <topic> for yourself.",
    "And the best part is that you can get it <place> <when>.",
    "Critics call it silly, fans call it <adj>, and we call it a must for any <noun>.",
]

SHOUTS = [
    "<adj> <topic> <number>% off!!!",
    "buy <number> <topic> get one free *** order <when> ***",
    "call now $$$ <adj> <topic> $$$ no credit check",
    "free free free <topic> >>> click here <<<",
    "hurry!!! only <number> left <place> #<adj> #deal #sale",
    "100% guaranteed <topic> ~~~ <adj> ~~~ act <when>",
    "*** winner *** claim your <topic> <when> ***",
    "lowest prices <place> ===> <adj> <topic>",
]

LOREM = [
    "Lorem ipsum dolor sit amet, consectetur adipiscing elit.",
    "Sed do eiusmod tempor incididunt ut labore et dolore magna aliqua.",
    "Ut enim ad minim veniam, quis nostrud exercitation ullamco laboris nisi ut aliquip ex ea commodo consequat.",
    "Duis aute irure dolor in reprehenderit in voluptate velit esse cillum dolore eu fugiat nulla pariatur.",
    "Excepteur sint occaecat cupidatat non proident, sunt in culpa qui officia deserunt mollit anim id est laborum.",
    "Replace this text with the text of your page.",
]

POLICY = [
    "This privacy policy explains how <company> handles the data of the visitors of this website.",
    "This site uses cookies. By continuing to browse you accept our use of cookies and the terms of use.",
    "We may collect your name, your email address and the pages that you visit when you fill in a form on this site.",
    "<company> will not sell your personal data, but may share it with partners who help us to run this website.",
    "Some partners may set cookies on your device in order to measure how often an advertisement is shown to you.",
    "You may at any time ask us which data we hold about you, and ask us to correct or to delete them.",
    "We keep your data for as long as it is needed for the purposes that are set out in this privacy policy.",
    "The terms of use of this website are governed by the laws of the country in which <company> has its seat.",
    "<company> is not responsible for the content of other websites to which this website may link.",
    "All trademarks, logos and names on this website are the property of their respective owners.",
    "We may change this privacy policy from time to time without notice, so please check this page regularly.",
    "If you do not agree with this cookie policy you may switch off cookies in the settings of your browser.",
    "This website is not meant for children, and <company> does not knowingly collect data from children.",
    "Our servers keep a log of the addresses from which this website was opened and of the time of each visit.",
    "Please write to the data protection officer of <company> if you have questions about this policy.",
    "By using this website you confirm that you have read and understood this policy and agree to be bound by it.",
]
